"""Property tests over ranks: sound ones, ones with a bug planted, ones that ranks cannot run."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import time
import unittest

import torch
import torch.distributed as dist
from hypothesis import (
    HealthCheck,
    assume,
    currently_in_test_context,
    event,
    example,
    given,
    note,
    reject,
    seed,
    settings,
    target,
)
from hypothesis import strategies as st
from torch.testing._internal.common_device_type import instantiate_device_type_tests

from harness import (
    DistributedTestBase,
    MultiProcContinuousTest,
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

_INTS = st.integers(-100, 100)
_LISTS = st.lists(_INTS, min_size=1, max_size=8)
_DTYPES = st.sampled_from([torch.float32, torch.float64, torch.int32, torch.float16])


def record(case, what) -> None:
    """Write a line of JSON to this rank's file."""
    out = os.environ.get("SAMPLE_OUT")
    if out:
        with open(os.path.join(out, f"rank{case.rank}"), "a") as file:
            file.write(json.dumps(what) + "\n")


def check_sum(case, values) -> None:
    x = torch.tensor(values)
    dist.all_reduce(x)
    case.assertEqual(x, case.world_size * torch.tensor(values))


def add_one_to_the_third(case, values) -> None:
    """An all-reduce that is wrong on rank 1 from three elements on."""
    x = torch.tensor(values)
    dist.all_reduce(x)
    if case.rank == 1 and len(values) >= 3:
        x[2] += 1
    case.assertEqual(x, case.world_size * torch.tensor(values))


class Fresh(MultiProcessTestCase):
    """Brings up its process group itself."""

    world_size = 2

    @settings(max_examples=50)
    @given(values=_LISTS, scale=st.floats(-1, 1))
    def test_equal_draws(self, values, scale):
        record(self, [values, scale, currently_in_test_context()])
        self.init_process_group()
        check_sum(self, values)

    @given(values=_LISTS)
    def test_by_file(self, values):
        store = dist.FileStore(self.file_name, self.world_size)
        dist.init_process_group("gloo", store=store, rank=self.rank, world_size=self.world_size)
        check_sum(self, values)

    @settings(max_examples=200)
    @given(values=_LISTS)
    def test_wrong(self, values):
        self.init_process_group()
        add_one_to_the_third(self, values)

    @given(_LISTS)
    def test_process(self, values):
        record(self, os.getpid())

    @given(number=_INTS)
    def test_seeds(self, number):
        import random

        import numpy as np

        record(self, [random.random(), np.random.rand(), torch.rand(1).item()])

    @given(tensor=st.builds(torch.full, st.just((200, 200)), st.floats(-1, 1)))
    def test_large_values(self, tensor):
        self.init_process_group()
        before = tensor.clone()
        dist.all_reduce(tensor)
        self.assertEqual(tensor, 2 * before)


class Continuous(MultiProcContinuousTest):
    """Finds its process group, and keeps it."""

    world_size = 2

    @classmethod
    def backend_str(cls):
        return "gloo"

    @settings(max_examples=50)
    @given(values=_LISTS)
    def test_equal_draws(self, values):
        record(self, [values, os.getpid()])
        check_sum(self, values)

    def test_after(self):
        record(self, os.getpid())
        dist.barrier()

    @settings(max_examples=100)
    @given(number=st.integers(0, 1000))
    def test_short(self, number):
        """Ends with groups that peers may still be bringing up."""
        for _ in range(3):
            dist.new_group([0, 1])

    @example(number=1)
    @given(number=st.just(0))
    def test_leaves(self, number):
        """The first example leaves something, and others follow."""
        if number == 1:
            os.environ["LEFT"] = "by an example"

    @settings(max_examples=200)
    @given(values=_LISTS)
    def test_wrong(self, values):
        add_one_to_the_third(self, values)

    @settings(max_examples=200)
    @given(values=_LISTS)
    def test_out_of_step(self, values):
        """Ranks call different numbers of collectives; the next example must not notice."""
        check_sum(self, values)
        if len(values) > 4:
            handle = dist.isend(torch.ones(1), 1) if self.rank == 0 else None
            del handle


class Threads(MultiThreadedTestCase):
    world_size = 2

    @settings(max_examples=50)
    @given(values=_LISTS)
    def test_equal_draws(self, values):
        record(self, values)
        check_sum(self, values)

    @settings(max_examples=200)
    @given(values=_LISTS)
    def test_wrong(self, values):
        add_one_to_the_third(self, values)

    @given(tensor=st.builds(torch.tensor, _LISTS))
    def test_values_of_its_own(self, tensor):
        before = tensor.clone()
        dist.all_reduce(tensor)
        self.assertEqual(tensor, 2 * before)

    @given(number=st.integers(0, 100))
    def test_assumes_alone(self, number):
        assume(self.rank == 0 or number < 10)
        dist.all_reduce(torch.ones(1))


class Base(DistributedTestBase):
    world_size = 2

    @given(values=_LISTS)
    def test_sum(self, device, values):
        self.create_pg(device)
        record(self, str(device))
        check_sum(self, values)


instantiate_device_type_tests(Base, globals(), only_for=("cpu",))


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
    @given(values=_LISTS)
    def test_around(self, values):
        self.assertFalse(torch.is_grad_enabled())
        check_sum(self, values)

    @parametrize("factor", [2, 3])
    @given(values=_LISTS)
    def test_factor(self, factor, values):
        self.init_process_group()
        record(self, factor)
        check_sum(self, [factor * v for v in values])

    @world_sizes(1, 3, 4)
    @given(values=_LISTS)
    def test_sizes(self, values):
        self.init_process_group()
        record(self, self.world_size)
        check_sum(self, values)

    @devices("cpu")
    @given(values=_LISTS)
    def test_device(self, values, device):
        record(self, str(device))

    @given(values=_LISTS)
    @timeout(33.0)
    def test_marks_below(self, values):
        record(self, self._testMethodName)

    @given(values=_LISTS)
    @requires_world_size(3, allow_cpu=True)
    def test_size_below(self, values):
        record(self, self.world_size)


class Controls(MultiProcessTestCase):
    """What Hypothesis offers to a body."""

    world_size = 2

    @settings(max_examples=20)
    @given(number=st.integers(0, 1000))
    def test_assume(self, number):
        assume(number % 2)
        record(self, number)
        if number % 3 == 0:
            reject()
        self.init_process_group()
        dist.barrier()

    @given(number=st.integers(0, 100))
    def test_assumes_alone(self, number):
        self.init_process_group()
        assume(self.rank == 0 or number < 10)
        dist.all_reduce(torch.ones(1))

    @given(number=st.integers(0, 100))
    def test_never_satisfied(self, number):
        assume(number > 1000)

    @given(number=_INTS)
    def test_notes(self, number):
        note(f"the number is {number}")
        note(f"on {self.rank}")
        self.assertLess(number, 10)

    @settings(max_examples=30)
    @given(number=_INTS)
    def test_events(self, number):
        event("even" if number % 2 == 0 else "odd")
        event("rank", payload=self.rank)

    @settings(max_examples=200)
    @given(number=st.integers(0, 10_000))
    def test_target(self, number):
        target(float(number + self.rank), label="size")

    @example(number=7)
    @settings(max_examples=1)
    @given(number=st.just(0))
    def test_example(self, number):
        record(self, number)

    @example(number=7)
    @given(number=st.just(0))
    def test_example_fails(self, number):
        self.assertNotEqual(number, 7)

    @example(number=7).xfail(raises=ZeroDivisionError)
    @example(number=8).xfail(raises=AssertionError)
    @given(number=st.just(1))
    def test_xfail(self, number):
        self.assertNotEqual(number, 8)
        _ = 1 // (7 - number)

    @seed(5)
    @settings(max_examples=10)
    @given(number=st.integers())
    def test_seed(self, number):
        record(self, number)

    @given(number=_INTS)
    def test_skips(self, number):
        self.skipTest("not today")

    @given(number=st.integers(0, 100))
    def test_skips_alone(self, number):
        if self.rank == 1 and number > 10:
            self.skipTest("not today")

    @given(number=st.integers(0, 100))
    def test_subtests(self, number):
        for part in range(3):
            with self.subTest(part=part):
                self.assertFalse(number > 10 and part == 1 and self.rank == 0)

    @unittest.expectedFailure
    @given(number=st.integers(0, 100))
    def test_expected_failure(self, number):
        self.assertLess(number, 10)

    @unittest.expectedFailure
    @given(number=st.integers(0, 100))
    def test_no_expected_crash(self, number):
        if number > 10 and self.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    @given(number=st.integers(0, 100))
    def test_returns(self, number):
        return number

    @settings(suppress_health_check=list(HealthCheck))
    @given(number=st.integers(0, 100))
    def test_exits(self, number):
        if number > 10 and self.rank == 1:
            raise SystemExit(3)

    @example(number=500)
    @example(number=11)
    @given(number=st.just(0))
    def test_two_bugs(self, number):
        self.assertLess(number, 500)
        if number > 10 and self.rank == 1:
            raise ValueError("more than ten")

    @given(number=st.integers(0, 100))
    def test_flaky(self, number):
        path = os.path.join(os.environ["SAMPLE_OUT"], f"seen{self.rank}")
        if not os.path.exists(path):
            with open(path, "w"):
                raise ValueError("the first time only")

    @given(number=st.integers(0, 100))
    def test_prints(self, number):
        print(f"said of {number}")
        self.assertLess(number, 10)


class Unfinished(Continuous):
    """Property tests that end otherwise than with a pass or a skip, and tests that come next."""

    @given(number=st.integers())
    def test_never_satisfied(self, number):
        assume(False)

    @given(number=st.integers())
    def test_fails(self, number):
        self.fail("always")

    @given(number=st.sampled_from([]))
    def test_bad_strategy(self, number):
        pass

    @settings(deadline=1)
    @given(number=st.integers())
    def test_deadline(self, number):
        time.sleep(0.1)

    @given(function=st.just(lambda: 1))
    def test_value_that_cannot_be_sent(self, function):
        pass

    @given(number=st.integers().map(lambda number: number / 0))
    def test_error_in_the_parent(self, number):
        pass

    def test_next(self):
        record(self, os.getpid())

    @settings(max_examples=2)
    @given(number=st.integers())
    def test_next_with_examples(self, number):
        record(self, os.getpid())


class Nested:
    """Tests whose bodies call a function under `@given`; the same for ranks of both kinds."""

    @settings(max_examples=2)
    @given(scale=st.sampled_from([3, 6]))
    def test_nested(self, scale):
        @settings(max_examples=7)
        @given(number=_INTS)
        def inner(number):
            record(self, scale * number)

        inner()

    @settings(max_examples=2)
    @given(scale=st.sampled_from([3, 6]))
    def test_nested_fails(self, scale):
        @settings(max_examples=200)
        @given(number=_INTS)
        def inner(number):
            self.assertLess(number, 10, "the inner property is wrong")

        inner()

    @settings(max_examples=2)
    @given(scale=st.sampled_from([3, 6]))
    def test_nested_takes_over_settings(self, scale):
        @given(number=_INTS)
        def inner(number):
            record(self, number)

        inner()

    @settings(max_examples=1)
    @given(scale=st.sampled_from([3, 6]))
    def test_nested_skips(self, scale):
        @given(number=_INTS)
        def inner(number):
            self.skipTest("not today")

        inner()

    def test_plain(self):
        @settings(max_examples=7)
        @given(number=_INTS)
        def inner(number):
            record(self, number)

        inner()

    def test_plain_fails(self):
        @settings(max_examples=200)
        @given(number=_INTS)
        def inner(number):
            self.assertFalse(number > 9 and self.rank == 1, "the inner property is wrong")

        inner()


class NestedInProcesses(Nested, MultiProcessTestCase):
    world_size = 2


class NestedInThreads(Nested, MultiThreadedTestCase):
    world_size = 2


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
    @given(number=_INTS)
    def test_always(self, number):
        record(self, number)
        raise ValueError("as expected")

    @raises_value_error
    @given(number=_INTS)
    def test_not_from_ten_on(self, number):
        if number < 10:
            raise ValueError("as expected")

    @raises_value_error
    @given(number=_INTS)
    def test_another_message(self, number):
        raise ValueError(f"other than expected: {number}")

    @raises_value_error
    @settings(max_examples=10)
    @given(number=_INTS)
    def test_assumes(self, number):
        assume(number % 2)
        record(self, number)
        raise ValueError("as expected")

    @tries_twice
    @settings(max_examples=10)
    @given(number=_INTS)
    def test_second_try(self, number):
        self.tries = getattr(self, "tries", 0) + 1
        record(self, [self.tries, number])
        if self.tries == 1:
            raise ConnectionError

    @tries_twice
    @given(number=_INTS)
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


class Refused(MultiProcessTestCase):
    """Values that ranks cannot be given."""

    world_size = 2

    @given(data=st.data())
    def test_data(self, data):
        data.draw(_INTS)

    @given(pair=st.tuples(_INTS, st.randoms()))
    def test_random(self, pair):
        pair[1].random()

    @given(function=st.sampled_from([lambda: 1]))
    def test_function(self, function):
        function()


def sum_of(x: torch.Tensor, rank: int, bug: str) -> torch.Tensor:
    """An all-reduce with a bug for float16 on rank 1, from three elements on."""
    is_hit = x.dtype is torch.float16 and rank == 1 and x.numel() >= 3
    if is_hit and bug == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if is_hit and bug == "hang":
        signal.pause()
    if is_hit and bug == "deadlock":
        dist.broadcast(x, 0)
    dist.all_reduce(x)
    if is_hit and bug == "value":
        x[2] += 1
    return x


class Planted(MultiProcessTestCase):
    """The same bug, as it shows in four ways."""

    world_size = 2

    def check(self, bug, dtype, values):
        self.init_process_group()
        x = torch.tensor(values, dtype=dtype)
        self.assertEqual(sum_of(x.clone(), self.rank, bug), x * 2)

    @settings(max_examples=200)
    @given(dtype=_DTYPES, values=_LISTS)
    def test_value(self, dtype, values):
        self.check("value", dtype, values)

    @settings(max_examples=200)
    @given(dtype=_DTYPES, values=_LISTS)
    def test_crash(self, dtype, values):
        self.check("crash", dtype, values)

    @settings(max_examples=200)
    @given(dtype=_DTYPES, values=_LISTS)
    def test_deadlock(self, dtype, values):
        self.check("deadlock", dtype, values)

    @timeout(5.0)
    @settings(max_examples=200)
    @given(dtype=_DTYPES, values=_LISTS)
    def test_hang(self, dtype, values):
        self.check("hang", dtype, values)
