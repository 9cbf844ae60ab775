"""Wrong programs whose ranks all pass, or hang: one test per fault that the audit has to name.

`FAULTS` declares for each test what its report must say: words, and the call of each rank. The
bodies belong to no TestCase, so that the same ones run on processes, reused processes and threads.
"""

from __future__ import annotations

import importlib

import torch
import torch.distributed as dist

from harness import MultiProcessTestCase, MultiThreadedTestCase
from suites.samples.miscommunicates_groups import GroupBodies, MessageBodies, WorkBodies
from suites.samples.miscommunication_table import FAULTS, NO_CALL, named, ones

__all__ = ["FAULTS", "NO_CALL"]


class OperationBodies:
    """The ranks call different things. Nobody waits, so that nothing hangs."""

    @named("call different operations", rank0="all_reduce SUM", rank1="broadcast root 0")
    def test_other_operation(self):
        if self.rank == 0:
            dist.all_reduce(ones(4), async_op=True)
        else:
            dist.broadcast(ones(4), 0, async_op=True)

    @named("call different operations", rank0="barrier", rank1="all_reduce SUM", on_threads=False)
    def test_barrier_against_all_reduce(self):
        if self.rank == 0:
            dist.barrier(async_op=True)
        else:
            dist.all_reduce(ones(1), async_op=True)

    @named("the roots differ", rank0="broadcast root 0", rank1="broadcast root 1")
    def test_other_root_of_broadcast(self):
        dist.broadcast(ones(2), self.rank, async_op=True)

    @named(
        "the roots differ", rank0="reduce SUM root 0", rank1="reduce SUM root 1", on_threads=False
    )
    def test_other_root_of_reduce(self):
        dist.reduce(ones(2), self.rank, async_op=True)

    @named("the roots differ", rank0="gather root 0", rank1="gather root 1")
    def test_other_root_of_gather(self):
        dist.gather(ones(2), [ones(2), ones(2)], self.rank, async_op=True)

    @named("roots differ", rank0="broadcast root 0", rank1="broadcast root 1")
    def test_other_root_and_both_wait(self):
        dist.broadcast(ones(2), self.rank)

    @named("the reductions differ", rank0="all_reduce SUM", rank1="all_reduce MAX")
    def test_other_reduction(self):
        dist.all_reduce(ones(4), dist.ReduceOp.MAX if self.rank else dist.ReduceOp.SUM)

    @named("the reductions differ", rank0="reduce MIN root 0", rank1="reduce SUM", on_threads=False)
    def test_other_reduction_of_reduce(self):
        dist.reduce(ones(4), 0, dist.ReduceOp.SUM if self.rank else dist.ReduceOp.MIN)

    @named("does not call it", rank0="all_reduce SUM", rank1=NO_CALL)
    def test_one_more(self):
        if self.rank == 0:
            dist.all_reduce(ones(4), async_op=True)

    @named("collective 3", rank0=NO_CALL, rank1="all_gather")
    def test_one_more_after_others(self):
        dist.barrier()
        dist.all_reduce(ones(1))
        if self.rank == 1:
            dist.all_gather([ones(2), ones(2)], ones(2), async_op=True)


class TensorBodies:
    """The operation is the same, and the tensors do not fit."""

    @named("the dtypes differ", rank0="all_reduce SUM float32", rank1="all_reduce SUM int32")
    def test_other_dtype(self):
        dist.all_reduce(ones(4, dtype=torch.int32 if self.rank else torch.float32))

    @named("the dtypes differ", rank0="broadcast root 0 float32", rank1="broadcast root 0 int32")
    def test_other_dtype_of_broadcast(self):
        dist.broadcast(ones(4, dtype=torch.int32 if self.rank else torch.float32), 0)

    @named("the shapes differ", rank0="all_reduce SUM float32 [2, 3]", rank1="all_reduce SUM")
    def test_other_shape(self):
        dist.all_reduce(ones(3, 2) if self.rank else ones(2, 3))

    @named(
        "the shapes differ",
        rank0="reduce SUM root 0 float32 [4]",
        rank1="reduce SUM root 0",
        on_threads=False,
    )
    def test_other_shape_of_reduce(self):
        dist.reduce(ones(2, 2) if self.rank else ones(4), 0)


class SizeBodies:
    """Sizes that gloo refuses, or aborts the process for; the backend `fake` moves no data."""

    @named(
        "the dtypes differ",
        rank0="all_gather float32 [2] -> float32 [2], float32 [2]",
        rank1="all_gather int32 [2] -> int32 [2], int32 [2]",
        on_threads=False,
    )
    def test_other_dtype_of_what_is_gathered(self):
        dtype = torch.int32 if self.rank else torch.float32
        dist.all_gather([ones(2, dtype=dtype), ones(2, dtype=dtype)], ones(2, dtype=dtype))

    @named("numbers of elements differ", rank0="broadcast root 0 float32 [4]", rank1="broadcast")
    def test_other_number_of_elements(self):
        dist.broadcast(ones(3) if self.rank else ones(4), 0, async_op=True)

    @named(
        "rank 0 of the group gives 3 elements, but rank 1 takes 2",
        rank0="all_to_all_single",
        rank1="all_to_all_single",
        on_threads=False,
    )
    def test_other_split_sizes(self):
        sends = [2, 2] if self.rank else [1, 3]
        takes = [2, 2] if self.rank else [1, 2]
        dist.all_to_all_single(ones(sum(takes)), ones(4), takes, sends, async_op=True)

    @named("elements, but rank", rank0="all_to_all", rank1="all_to_all", on_threads=False)
    def test_other_parts_of_all_to_all(self):
        parts = [ones(2), ones(2 if self.rank else 3)]
        dist.all_to_all([torch.empty_like(part) for part in parts], parts)


class LargerBodies:
    """Three and four ranks."""

    @named("rank 2 does not call it", rank0="all_reduce SUM", rank1="all_reduce SUM", rank2=NO_CALL)
    def test_all_but_one(self):
        if self.rank != 2:
            dist.all_reduce(ones(4), async_op=True)

    @named(
        "the reductions differ",
        rank0="all_reduce SUM",
        rank1="all_reduce SUM",
        rank2="all_reduce MAX",
    )
    def test_one_reduces_otherwise(self):
        dist.all_reduce(ones(4), dist.ReduceOp.MAX if self.rank == 2 else dist.ReduceOp.SUM)

    @named(
        "in different orders",
        rank0="all_reduce",
        rank1="all_reduce",
        rank2="all_reduce",
        on_threads=False,
    )
    def test_a_cycle_of_three_groups(self):
        pairs = [dist.new_group(pair) for pair in ([0, 1], [1, 2], [2, 0])]
        before = pairs[self.rank - 1]
        works = [
            dist.all_reduce(ones(4), group=group, async_op=True)
            for group in (pairs[self.rank], before)
        ]
        for work in works:
            work.wait()

    @named("send from rank 2 to rank 1", rank1=NO_CALL, rank2="send to 1", on_threads=False)
    def test_a_message_too_many(self):
        if self.rank == 2:
            dist.isend(ones(4), 1)


class _OnProcesses(MultiProcessTestCase):
    world_size = 2
    timeout_s = 60.0

    def perRankSetUp(self):
        self.init_process_group()


class TwoRanks(OperationBodies, TensorBodies, MessageBodies, WorkBodies, GroupBodies, _OnProcesses):
    pass


class ThreeRanks(LargerBodies, _OnProcesses):
    world_size = 3


class TwoFake(SizeBodies, MultiProcessTestCase):
    world_size = 2
    timeout_s = 60.0

    def perRankSetUp(self):
        importlib.import_module("torch.testing._internal.distributed.fake_pg")
        self.init_process_group("fake")


class TwoReused(TwoRanks):
    isolation = "group"


class ThreeReused(ThreeRanks):
    isolation = "group"


class _OnThreads(MultiThreadedTestCase):
    world_size = 2
    timeout_s = 60.0

    def setUp(self):
        super().setUp()
        self._spawn_threads()


class TwoThreads(OperationBodies, TensorBodies, MessageBodies, WorkBodies, GroupBodies, _OnThreads):
    pass


class ThreeThreads(LargerBodies, _OnThreads):
    world_size = 3
