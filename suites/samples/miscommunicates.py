"""Wrong programs whose ranks all pass, or hang: one test per fault that the audit has to name.

`FAULTS` declares for each test what its report must say: words, and the call of each rank. The
bodies belong to no TestCase, so that the same ones run on processes, reused processes and threads.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from harness import MultiProcessTestCase, MultiThreadedTestCase


@dataclass(frozen=True)
class Declared:
    """What a report must say.

    Attributes:
        words: the problem.
        calls: by rank, the beginning of its call; "" for a rank that the report must not blame.
        on_threads: whether thread ranks have the operation.
    """

    words: str
    calls: dict[int, str]
    on_threads: bool = True


FAULTS: dict[str, Declared] = {}
NO_CALL = "does not call it"


def named(words: str, *, on_threads: bool = True, **calls: str) -> Callable[[Any], Any]:
    """Declare what the report of a test must say: `rank0="all_reduce SUM"`."""

    def declare(test: Any) -> Any:
        by_rank = {int(name.removeprefix("rank")): call for name, call in calls.items()}
        FAULTS[test.__name__] = Declared(words, by_rank, on_threads)
        return test

    return declare


def ones(*size: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.ones(*size, dtype=dtype)


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


class MessageBodies:
    """Sends and receives. torch's group of threads has neither."""

    @named("1 send from rank 0 to rank 1", rank0="send to 1 tag 0", rank1=NO_CALL, on_threads=False)
    def test_sent_and_never_received(self):
        if self.rank == 0:
            dist.isend(ones(4), 1)
        dist.barrier()

    @named("never sent", rank0=NO_CALL, rank1="recv from 0 tag 0", on_threads=False)
    def test_received_and_never_sent(self):
        if self.rank == 1:
            dist.irecv(ones(4), 0)

    @named("the tags differ", rank0="send to 1 tag 1", rank1="recv from 0 tag 2", on_threads=False)
    def test_other_tag(self):
        if self.rank == 0:
            dist.isend(ones(4), 1, tag=1)
        else:
            dist.irecv(ones(4), 0, tag=2)

    @named("numbers of elements differ", rank0="send to 1", rank1="recv from 0", on_threads=False)
    def test_other_size(self):
        if self.rank == 0:
            dist.isend(ones(2), 1)
        else:
            dist.irecv(ones(4), 0)

    @named("the dtypes differ", rank0="send to 1", rank1="recv from 0", on_threads=False)
    def test_other_dtype_of_message(self):
        if self.rank == 0:
            dist.send(ones(4, dtype=torch.int32), 1)
        else:
            dist.recv(ones(4), 0)


class WorkBodies:
    """Operations in flight."""

    @named("nobody waits for its Work", rank0="all_reduce SUM", rank1="all_reduce SUM")
    def test_never_waited(self):
        dist.all_reduce(ones(4), async_op=True)
        dist.barrier()

    @named("nobody waits for its Work", rank0="", rank1="broadcast root 0")
    def test_never_waited_on_one_rank(self):
        work = dist.broadcast(ones(4), 0, async_op=True)
        if self.rank == 0:
            work.wait()

    @named("nobody waits for its Work", rank0="send to 1", rank1="", on_threads=False)
    def test_never_waited_for_a_send(self):
        work = dist.isend(ones(4), 1) if self.rank == 0 else dist.irecv(ones(4), 0)
        if self.rank == 1:
            work.wait()
        dist.barrier()

    @named("mul_ writes to its tensor before wait()", rank0="all_reduce SUM", rank1="all_reduce")
    def test_written_in_flight(self):
        x = ones(1 << 10)
        work = dist.all_reduce(x, async_op=True)
        x.mul_(2)
        work.wait()

    @named(
        "zero_ writes to its tensor before wait()", rank0="send to 1", rank1="", on_threads=False
    )
    def test_send_buffer_written_in_flight(self):
        x = ones(1 << 10)
        if self.rank == 0:
            work = dist.isend(x, 1)
            x[5:].zero_()
            work.wait()
        else:
            dist.recv(x, 0)

    @named("sum reads its tensor before wait()", rank0="all_reduce SUM", rank1="all_reduce SUM")
    def test_read_in_flight(self):
        x = ones(1 << 10)
        work = dist.all_reduce(x, async_op=True)
        x.sum().item()
        work.wait()

    @named("reads its tensor before wait()", rank0="all_gather", rank1="")
    def test_output_read_in_flight(self):
        out = [ones(8), ones(8)]
        work = dist.all_gather(out, ones(8), async_op=True)
        if self.rank == 0:
            out[1] + 1
        work.wait()

    @named(
        "all_reduce writes to its tensor before wait()",
        rank0="all_reduce",
        rank1="all_reduce",
        on_threads=False,
    )
    def test_two_operations_on_one_tensor(self):
        x = ones(8)
        first = dist.all_reduce(x, async_op=True)
        second = dist.all_reduce(x, async_op=True)
        first.wait()
        second.wait()


class GroupBodies:
    """Groups, and the order over several of them."""

    @named("all_reduce of a group that the rank is not a member of", rank0="", rank1="")
    def test_no_member(self):
        group = dist.new_group([0])
        dist.all_reduce(ones(4), group=group)

    @named("broadcast of a group that the rank is not a member of", rank0="", rank1="")
    def test_no_member_of_broadcast(self):
        group = dist.new_group([1])
        dist.broadcast(ones(4), 1, group=group)

    @named("is used after it was destroyed", rank0="", rank1="", on_threads=False)
    def test_destroyed_group(self):
        group = dist.new_group([0, 1])
        dist.all_reduce(ones(4), group=group)
        dist.destroy_process_group(group)
        group.allreduce([ones(4)]).wait()

    @named("is used after it was destroyed", rank0="", rank1="", on_threads=False)
    def test_destroyed_group_of_barrier(self):
        group = dist.new_group([0, 1])
        dist.barrier(group)
        dist.destroy_process_group(group)
        group.barrier().wait()

    @named(
        "new_group() number 1",
        rank0="new_group ranks [0]",
        rank1="new_group ranks [1]",
        on_threads=False,
    )
    def test_groups_made_in_another_order(self):
        first, second = ([0], [1]) if self.rank == 0 else ([1], [0])
        dist.new_group(first)
        dist.new_group(second)

    @named("does not call it", rank0="new_group", rank1=NO_CALL, on_threads=False)
    def test_one_more_group(self):
        dist.new_group([0])
        if self.rank == 0:
            dist.new_group([0])

    @named("in different orders", rank0="all_reduce SUM", rank1="all_reduce SUM", on_threads=False)
    def test_order_over_two_groups(self):
        a, b = dist.new_group([0, 1]), dist.new_group([0, 1])
        first, second = (a, b) if self.rank == 0 else (b, a)
        works = [dist.all_reduce(ones(4), group=g, async_op=True) for g in (first, second)]
        for work in works:
            work.wait()

    @named("in different orders", rank0="barrier", rank1="all_reduce SUM", on_threads=False)
    def test_order_over_the_world_and_a_group(self):
        group = dist.new_group([0, 1])
        x = ones(4)
        if self.rank == 0:
            works = [dist.barrier(async_op=True), dist.all_reduce(x, group=group, async_op=True)]
        else:
            works = [dist.all_reduce(x, group=group, async_op=True), dist.barrier(async_op=True)]
        for work in works:
            work.wait()


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
