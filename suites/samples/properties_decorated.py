"""Property tests with decorators around `@given`, and with ranks that are killed or stopped."""

from __future__ import annotations

import contextlib
import functools

import torch
import torch.distributed as dist
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from harness import (
    MultiProcessTestCase,
    MultiThreadedTestCase,
    delay_rank,
    devices,
    instantiate_parametrized_tests,
    kill_rank,
    parametrize,
    requires_world_size,
    stop_rank,
    timeout,
    world_sizes,
)
from suites.samples.properties import INTS, LISTS, check_sum, record


def brought_up(test):
    """A decorator that does something in every rank, around `@given`."""

    @functools.wraps(test)
    def wrapper(self, *args, **kwargs):
        self.init_process_group()
        record(self, "around")
        with torch.no_grad():
            return test(self, *args, **kwargs)

    return wrapper


@instantiate_parametrized_tests
class Decorated(MultiProcessTestCase):
    world_size = 2

    @brought_up
    @given(values=LISTS)
    def test_around(self, values):
        self.assertFalse(torch.is_grad_enabled())
        check_sum(self, values)

    @parametrize("factor", [2, 3])
    @given(values=LISTS)
    def test_factor(self, factor, values):
        self.init_process_group()
        record(self, factor)
        check_sum(self, [factor * v for v in values])

    @world_sizes(1, 3, 4)
    @given(values=LISTS)
    def test_sizes(self, values):
        self.init_process_group()
        record(self, self.world_size)
        check_sum(self, values)

    @devices("cpu")
    @given(values=LISTS)
    def test_device(self, values, device):
        record(self, str(device))

    @given(values=LISTS)
    @timeout(33.0)
    def test_marks_below(self, values):
        record(self, self._testMethodName)

    @given(values=LISTS)
    @requires_world_size(3, allow_cpu=True)
    def test_size_below(self, values):
        record(self, self.world_size)


def raises_value_error(test):
    """A decorator above `@given` that wants every example to raise."""

    @functools.wraps(test)
    def wrapper(self, *args, **kwargs):
        with self.assertRaisesRegex(ValueError, "^as expected$"):
            test(self, *args, **kwargs)

    return wrapper


def tries_twice(test):
    """A decorator above `@given` that calls a body again that has raised."""

    @functools.wraps(test)
    def wrapper(self, *args, **kwargs):
        try:
            test(self, *args, **kwargs)
        except ConnectionError:
            test(self, *args, **kwargs)

    return wrapper


class Expecting:
    """Decorators above `@given` that see what an example raises, on ranks of both kinds."""

    @raises_value_error
    @settings(max_examples=10)
    @given(number=INTS)
    def test_always(self, number):
        record(self, number)
        raise ValueError("as expected")

    @raises_value_error
    @given(number=INTS)
    def test_not_from_ten_on(self, number):
        if number < 10:
            raise ValueError("as expected")

    @raises_value_error
    @given(number=INTS)
    def test_another_message(self, number):
        raise ValueError(f"other than expected: {number}")

    @raises_value_error
    @settings(max_examples=10)
    @given(number=INTS)
    def test_assumes(self, number):
        assume(number % 2)
        record(self, number)
        raise ValueError("as expected")

    @tries_twice
    @settings(max_examples=10)
    @given(number=INTS)
    def test_second_try(self, number):
        self.tries = getattr(self, "tries", 0) + 1
        record(self, [self.tries, number])
        if self.tries == 1:
            raise ConnectionError

    @tries_twice
    @given(number=INTS)
    def test_second_try_fails(self, number):
        raise ConnectionError(f"failed for {number}")


class ExpectingInProcesses(Expecting, MultiProcessTestCase):
    world_size = 2


class ExpectingInThreads(Expecting, MultiThreadedTestCase):
    world_size = 2


class Hit(MultiProcessTestCase):
    """Something is done to rank 1 in every example."""

    world_size = 2

    def go(self, number):
        record(self, number)
        self.init_process_group()
        dist.barrier()

    @kill_rank(1, at=1, survivors_raise=RuntimeError)
    @settings(max_examples=3)
    @given(number=st.integers(0, 1000))
    def test_killed(self, number):
        self.go(number)

    @settings(max_examples=3)
    @given(number=st.integers(0, 1000))
    @kill_rank(1, at=1, survivors_raise=RuntimeError)
    def test_killed_below(self, number):
        self.go(number)

    @stop_rank(1, at=1)
    @settings(max_examples=3)
    @given(number=st.integers(0, 1000))
    def test_stopped(self, number):
        record(self, number)
        self.init_process_group()
        if self.rank == 1:
            dist.barrier()

    @delay_rank(1, at=1, seconds=0.01)
    @settings(max_examples=3)
    @given(number=st.integers(0, 1000))
    def test_delayed(self, number):
        self.go(number)

    @kill_rank(1, at=1, survivors_raise=RuntimeError)
    @settings(max_examples=3)
    @given(number=st.integers(0, 1000))
    def test_assumes(self, number):
        assume(number % 2)
        self.go(number)

    @kill_rank(1, at=1)
    @given(number=st.integers(0, 1000))
    def test_never(self, number):
        if number < 10:
            with contextlib.suppress(RuntimeError):
                self.go(number)


class HitAndReused(Hit):
    isolation = "none"
