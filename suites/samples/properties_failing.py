"""Property tests that fail: with a bug planted, with values that ranks cannot be given, others."""

from __future__ import annotations

import os
import signal
import time

import torch
import torch.distributed as dist
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from harness import MultiProcessTestCase, timeout
from suites.samples.properties import DTYPES, INTS, LISTS, Continuous, record


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


class Refused(MultiProcessTestCase):
    """Values that ranks cannot be given."""

    world_size = 2

    @given(data=st.data())
    def test_data(self, data):
        data.draw(INTS)

    @given(pair=st.tuples(INTS, st.randoms()))
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
    @given(dtype=DTYPES, values=LISTS)
    def test_value(self, dtype, values):
        self.check("value", dtype, values)

    @settings(max_examples=200)
    @given(dtype=DTYPES, values=LISTS)
    def test_crash(self, dtype, values):
        self.check("crash", dtype, values)

    @settings(max_examples=200)
    @given(dtype=DTYPES, values=LISTS)
    def test_deadlock(self, dtype, values):
        self.check("deadlock", dtype, values)

    @timeout(5.0)
    @settings(max_examples=200)
    @given(dtype=DTYPES, values=LISTS)
    def test_hang(self, dtype, values):
        self.check("hang", dtype, values)
