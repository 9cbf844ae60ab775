"""Correct rank tests whose ranks communicate differently: collectives of one group.

The audit must find nothing. `CollectivePrograms` runs as processes and as threads.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as dist_nn
from torch.distributed import _functional_collectives as functional

from harness import MultiProcessTestCase, MultiThreadedTestCase
from suites.samples.communicates_work import Programs, WorkPrograms


class Processes(MultiProcessTestCase):
    world_size = 3

    def join_world(self):
        self.init_process_group()


class Threads(MultiThreadedTestCase):
    world_size = 3

    def setUp(self):
        super().setUp()
        self._spawn_threads()

    def join_world(self):
        pass  # thread ranks have a process group already


class CollectivePrograms(Programs):
    """Programs for processes and threads."""

    def test_all_gather_into_views(self):
        self.join_world()
        table = torch.zeros(self.world_size, 2)
        dist.all_gather(list(table.unbind()), torch.full((2,), self.rank + 1.0))
        self.assertEqual(table.sum().item(), 2.0 * self.total())

    def test_gather(self):
        self.join_world()
        into = [torch.zeros(2) for _ in range(self.world_size)] if self.rank == 1 else None
        dist.gather(torch.full((2,), float(self.rank)), into, dst=1)
        if into:
            self.assertEqual([t[0].item() for t in into], list(range(self.world_size)))

    def test_gather_async(self):
        self.join_world()
        mine = torch.full((2,), float(self.rank))
        into = [torch.zeros(2) for _ in range(self.world_size)] if self.rank == 0 else None
        work = dist.gather(mine, into, dst=0, async_op=True)
        mine.clone()  # what is sent may be read
        work.wait()
        if into:
            self.assertEqual(into[-1][0].item(), self.world_size - 1)

    def test_scatter(self):
        self.join_world()
        x = torch.zeros(2)
        parts = [torch.full((2,), float(i)) for i in range(self.world_size)]
        dist.scatter(x, parts if self.rank == 2 else None, src=2)
        self.assertEqual(x, torch.full((2,), float(self.rank)))

    def test_broadcast_root_reads_what_it_sends(self):
        self.join_world()
        x = torch.full((4,), float(self.rank))
        work = dist.broadcast(x, src=0, async_op=True)
        if self.rank == 0:
            self.assertEqual(x.sum().item(), 0.0)
        work.wait()
        self.assertEqual(x, torch.zeros(4))

    def test_broadcast_of_each_rank(self):
        self.join_world()
        xs = [torch.full((3,), float(self.rank)) for _ in range(self.world_size)]
        works = [dist.broadcast(x, src=i, async_op=True) for i, x in enumerate(xs)]
        for work in reversed(works):
            work.wait()
        self.assertEqual([x[0].item() for x in xs], list(range(self.world_size)))

    def test_roots_in_turn(self):
        self.join_world()
        x = torch.zeros(1)
        for root in range(self.world_size):
            if self.rank == root:
                x += 1
            dist.broadcast(x, src=root)
        self.assertEqual(x.item(), self.world_size)

    def test_all_reduce_of_a_slice(self):
        self.join_world()
        x = torch.ones(4, 4)
        work = dist.all_reduce(x[1], async_op=True)
        x[0].fill_(7)
        x[2:].mul_(2)
        work.wait()
        self.assertEqual(x[1], torch.full((4,), float(self.world_size)))

    def test_columns_beside_a_row_part_in_flight(self):
        self.join_world()
        x = torch.ones(4, 4)
        work = dist.all_reduce(x[1, 2:], async_op=True)
        x[:, 0] = 5  # spans the row, but touches no element of its second half
        x[:, :2].add_(1)
        x[::2].mul_(2)
        work.wait()
        self.assertEqual(x[1].tolist(), [6.0, 2.0, *[float(self.world_size)] * 2])

    def test_reads_what_it_sends(self):
        self.join_world()
        x = torch.full((2,), float(self.rank))
        into = [torch.zeros(2) for _ in range(self.world_size)]
        work = dist.all_gather(into, x, async_op=True)
        doubled = x * 2
        work.wait()
        self.assertEqual(doubled, into[self.rank] * 2)

    def test_two_collectives_send_the_same(self):
        self.join_world()
        x = torch.ones(2)
        one, two = ([torch.zeros(2) for _ in range(self.world_size)] for _ in range(2))
        works = [dist.all_gather(into, x, async_op=True) for into in (one, two)]
        for work in works:
            work.wait()
        self.assertEqual(one, two)

    def test_all_reduce_max_of_other_layout(self):
        self.join_world()
        x = torch.zeros(2, 3) if self.rank else torch.ones(8)[2:].view(2, 3)
        dist.all_reduce(x, op=dist.ReduceOp.MAX)
        self.assertEqual(x, torch.ones(2, 3))

    def test_empty(self):
        self.join_world()
        x = torch.zeros(0, 3)
        work = dist.all_reduce(x, async_op=True)
        x.add_(1)
        work.wait()
        dist.broadcast(torch.zeros(0), src=1)
        self.assertEqual(x.numel(), 0)

    def test_dtypes(self):
        self.join_world()
        for dtype in (torch.float16, torch.bfloat16, torch.int8, torch.int64, torch.float64):
            x = torch.ones(2, dtype=dtype)
            dist.all_reduce(x)
            self.assertEqual(x[0].item(), self.world_size)

    def test_bool(self):
        self.join_world()
        into = [torch.zeros(2, dtype=torch.bool) for _ in range(self.world_size)]
        dist.all_gather(into, torch.tensor([self.rank == 0, True]))
        self.assertEqual(into[0].tolist(), [True, True])

    def test_complex(self):
        self.join_world()
        x = torch.full((2,), 1 + 2j)
        dist.all_reduce(x)
        self.assertEqual(x[0].item(), self.world_size * (1 + 2j))

    def test_all_gather_into_tensor(self):
        self.join_world()
        x = torch.zeros(self.world_size * 2)
        mine = x[self.rank * 2 : self.rank * 2 + 2]
        mine.fill_(self.rank + 1)
        dist.all_gather_into_tensor(x, mine.clone())
        self.assertEqual(x.sum().item(), 2.0 * self.total())

    def test_reduce_scatter(self):
        self.join_world()
        x = torch.zeros(2)
        parts = [torch.full((2,), float(i)) for i in range(self.world_size)]
        dist.reduce_scatter(x, parts)
        self.assertEqual(x[0].item(), self.world_size * self.rank)

    def test_reduce_scatter_tensor(self):
        self.join_world()
        x = torch.zeros(2)
        work = dist.reduce_scatter_tensor(x, torch.ones(2 * self.world_size), async_op=True)
        work.wait()
        self.assertEqual(x[0].item(), self.world_size)

    def test_all_to_all_single_uneven(self):
        self.join_world()
        # Each rank gives i rows to rank i.
        gives = list(range(self.world_size))
        takes = [self.rank] * self.world_size
        x = torch.zeros(sum(takes), 2)
        dist.all_to_all_single(x, torch.ones(sum(gives), 2), takes, gives)
        self.assertEqual(x.sum().item(), 2.0 * self.rank * self.world_size)

    def test_object_collectives(self):
        self.join_world()
        mine = {"rank": self.rank, "text": "x" * 100 * self.rank}
        everyone = [None] * self.world_size
        dist.all_gather_object(everyone, mine)
        self.assertEqual([each["rank"] for each in everyone], list(range(self.world_size)))
        objects = ["a", {"b": 1}] if self.rank == 1 else [None, None]
        dist.broadcast_object_list(objects, src=1)
        self.assertEqual(objects, ["a", {"b": 1}])
        gathered = [None] * self.world_size if self.rank == 2 else None
        dist.gather_object(mine, gathered, dst=2)
        out = [None]
        every = [f"for {i}" * (i + 1) for i in range(self.world_size)]
        dist.scatter_object_list(out, every if self.rank == 0 else None, src=0)
        self.assertEqual(out[0], every[self.rank])

    def test_functional(self):
        self.join_world()
        group = list(range(self.world_size))
        x = torch.ones(2)
        y = functional.all_reduce(x, "sum", group)
        x += 1  # a functional collective has copied it
        self.assertEqual(y[0].item(), self.world_size)
        z = functional.all_gather_tensor(torch.full((1,), float(self.rank)), 0, group)
        self.assertEqual(z.tolist(), list(range(self.world_size)))
        part = functional.reduce_scatter_tensor(torch.ones(2 * self.world_size), "sum", 0, group)
        self.assertEqual(part.sum().item(), 2.0 * self.world_size)

    def test_functional_in_another_order_of_use(self):
        self.join_world()
        group = list(range(self.world_size))
        results = [functional.all_reduce(torch.ones(2) * i, "sum", group) for i in range(3)]
        for result in results if self.rank else results[::-1]:
            result.sum().item()

    def test_autograd_collectives(self):
        self.join_world()
        x = torch.ones(2, requires_grad=True)
        dist_nn.all_reduce(x * (self.rank + 1)).sum().backward()
        self.assertEqual(x.grad[0].item(), self.world_size * (self.rank + 1.0))


class InProcesses(CollectivePrograms, WorkPrograms, Processes):
    pass


class InGroups(InProcesses):
    isolation = "group"


class InThreads(CollectivePrograms, WorkPrograms, Threads):
    pass
