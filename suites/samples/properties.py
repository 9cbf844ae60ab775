"""Property tests over ranks, for every kind of rank, with Hypothesis's own controls."""

from __future__ import annotations

import json
import os
import signal
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
    expects_divergence,
)

INTS = st.integers(-100, 100)
LISTS = st.lists(INTS, min_size=1, max_size=8)
DTYPES = st.sampled_from([torch.float32, torch.float64, torch.int32, torch.float16])


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
    @given(values=LISTS, scale=st.floats(-1, 1))
    def test_equal_draws(self, values, scale):
        record(self, [values, scale, currently_in_test_context()])
        self.init_process_group()
        check_sum(self, values)

    @given(values=LISTS)
    def test_by_file(self, values):
        store = dist.FileStore(self.file_name, self.world_size)
        dist.init_process_group("gloo", store=store, rank=self.rank, world_size=self.world_size)
        check_sum(self, values)

    @settings(max_examples=200)
    @given(values=LISTS)
    def test_wrong(self, values):
        self.init_process_group()
        add_one_to_the_third(self, values)

    @given(LISTS)
    def test_process(self, values):
        record(self, os.getpid())

    @given(number=INTS)
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
    @given(values=LISTS)
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
    @given(values=LISTS)
    def test_wrong(self, values):
        add_one_to_the_third(self, values)

    @expects_divergence("the next example must get a new group")
    @settings(max_examples=200)
    @given(values=LISTS)
    def test_out_of_step(self, values):
        """Ranks call different numbers of collectives; the next example must not notice."""
        check_sum(self, values)
        if len(values) > 4:
            handle = dist.isend(torch.ones(1), 1) if self.rank == 0 else None
            del handle


class Threads(MultiThreadedTestCase):
    world_size = 2

    @settings(max_examples=50)
    @given(values=LISTS)
    def test_equal_draws(self, values):
        record(self, values)
        check_sum(self, values)

    @settings(max_examples=200)
    @given(values=LISTS)
    def test_wrong(self, values):
        add_one_to_the_third(self, values)

    @given(tensor=st.builds(torch.tensor, LISTS))
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

    @given(values=LISTS)
    def test_sum(self, device, values):
        self.create_pg(device)
        record(self, str(device))
        check_sum(self, values)


instantiate_device_type_tests(Base, globals(), only_for=("cpu",))


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

    @given(number=INTS)
    def test_notes(self, number):
        note(f"the number is {number}")
        note(f"on {self.rank}")
        self.assertLess(number, 10)

    @settings(max_examples=30)
    @given(number=INTS)
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

    @given(number=INTS)
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


class Nested:
    """Tests whose bodies call a function under `@given`; the same for ranks of both kinds."""

    @settings(max_examples=2)
    @given(scale=st.sampled_from([3, 6]))
    def test_nested(self, scale):
        @settings(max_examples=7)
        @given(number=INTS)
        def inner(number):
            record(self, scale * number)

        inner()

    @settings(max_examples=2)
    @given(scale=st.sampled_from([3, 6]))
    def test_nested_fails(self, scale):
        @settings(max_examples=200)
        @given(number=INTS)
        def inner(number):
            self.assertLess(number, 10, "the inner property is wrong")

        inner()

    @settings(max_examples=2)
    @given(scale=st.sampled_from([3, 6]))
    def test_nested_takes_over_settings(self, scale):
        @given(number=INTS)
        def inner(number):
            record(self, number)

        inner()

    @settings(max_examples=1)
    @given(scale=st.sampled_from([3, 6]))
    def test_nested_skips(self, scale):
        @given(number=INTS)
        def inner(number):
            self.skipTest("not today")

        inner()

    def test_plain(self):
        @settings(max_examples=7)
        @given(number=INTS)
        def inner(number):
            record(self, number)

        inner()

    def test_plain_fails(self):
        @settings(max_examples=200)
        @given(number=INTS)
        def inner(number):
            self.assertFalse(number > 9 and self.rank == 1, "the inner property is wrong")

        inner()


class NestedInProcesses(Nested, MultiProcessTestCase):
    world_size = 2


class NestedInThreads(Nested, MultiThreadedTestCase):
    world_size = 2
