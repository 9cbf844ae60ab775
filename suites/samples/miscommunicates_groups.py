"""Wrong programs with messages, work in flight and groups; see `miscommunicates.py`."""

from __future__ import annotations

import torch
import torch.distributed as dist

from suites.samples.miscommunication_table import NO_CALL, named, ones


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
