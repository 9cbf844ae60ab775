"""Rank tests for the levels of the audit, its exceptions and its limits."""

from __future__ import annotations

import os

import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import MultiProcessTestCase, audit, expects_divergence
from harness.ranks import call_recorder
from suites.samples.properties import record


class _Audited(MultiProcessTestCase):
    world_size = 2
    timeout_s = 60.0

    def perRankSetUp(self):
        self.init_process_group()

    def reduce_otherwise(self):
        dist.all_reduce(torch.ones(4), dist.ReduceOp.MAX if self.rank else dist.ReduceOp.SUM)

    def reduce_other_shapes(self):
        dist.all_reduce(torch.ones(2, 3) if self.rank else torch.ones(3, 2))


class Levels(_Audited):
    def test_reductions(self):
        self.reduce_otherwise()

    def test_shapes(self):
        self.reduce_other_shapes()

    @audit("off")
    def test_off(self):
        self.reduce_other_shapes()

    @audit("record")
    def test_record(self):
        self.reduce_otherwise()

    @expects_divergence("the ranks reduce in two ways")
    def test_declared(self):
        self.reduce_otherwise()

    def test_declared_in_part(self):
        with expects_divergence("rank 0 sends what nobody receives"):
            if self.rank == 0:
                dist.isend(torch.ones(1), 1)
        dist.barrier()

    def test_declared_in_part_and_wrong_after(self):
        with expects_divergence("rank 0 sends what nobody receives"):
            if self.rank == 0:
                dist.isend(torch.ones(1), 1)
        self.reduce_otherwise()


class OffForAll(_Audited):
    audit_level = "off"

    def test_reductions(self):
        self.reduce_otherwise()

    @audit("full")
    def test_full(self):
        self.reduce_otherwise()


class BadLevel(_Audited):
    audit_level = "thorough"

    def test_it(self):
        pass


class Kept(MultiProcessTestCase):
    """Ranks and their group serve several tests."""

    world_size = 2
    isolation = "none"

    def perRankSetUp(self):
        self.init_process_group()

    def test_pid(self):
        record(self, os.getpid())

    def test_leaves_a_message(self):
        # Both ranks have called as many operations, so that their group looks unharmed.
        if self.rank == 0:
            dist.isend(torch.ones(1), 1, tag=1)
        else:
            dist.irecv(torch.ones(1), 0, tag=2)
        dist.barrier()


class Limits(_Audited):
    def perRankSetUp(self):
        super().perRankSetUp()
        call_recorder.MAX_OPERATIONS = 3

    def test_wrong_within_the_limit(self):
        self.reduce_otherwise()
        for _ in range(5):
            dist.barrier()

    def test_wrong_beyond_the_limit(self):
        for _ in range(5):
            dist.barrier()
        self.reduce_otherwise()

    def test_fewer_calls_on_one_rank(self):
        for _ in range(5 if self.rank == 0 else 2):
            dist.barrier(async_op=True)


class Endings(_Audited):
    def test_expected_exception(self):
        with self.assertRaises(RuntimeError):
            dist.recv(torch.empty(0), tag=self.rank)  # gloo refuses an empty tensor
        dist.barrier()

    def test_fails_anyway(self):
        self.reduce_otherwise()
        self.fail("of the test itself")

    @settings(max_examples=30, deadline=None, database=None)
    @given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=5))
    def test_examples(self, sizes):
        dist.barrier()
        if max(sizes) >= 3:
            self.reduce_otherwise()
