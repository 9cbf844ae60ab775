"""Correct rank tests whose ranks communicate differently: what only backends of processes have.

The audit must find nothing.
"""

from __future__ import annotations

from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed import _functional_collectives as functional
from torch.distributed.distributed_c10d import _coalescing_manager

from suites.samples.communicates import Processes


class ProcessPrograms:
    """Programs that need more of a backend than torch's group of threads has."""

    def test_broadcast_of_another_shape(self):
        self.join_world()
        x = torch.ones(6) if self.rank == 0 else torch.zeros(2, 3)
        dist.broadcast(x, src=0)
        self.assertEqual(x.sum().item(), 6.0)

    def test_all_to_all(self):
        self.join_world()
        gives = [torch.full((2,), float(i)) for i in range(self.world_size)]
        takes = [torch.zeros(2) for _ in range(self.world_size)]
        dist.all_to_all(takes, gives)
        self.assertEqual(takes[0][0].item(), self.rank)

    def test_reduce(self):
        self.join_world()
        x = torch.ones(2)
        dist.reduce(x, dst=1)
        work = dist.reduce(torch.ones(2), dst=0, async_op=True)
        work.wait()
        if self.rank == 1:
            self.assertEqual(x[0].item(), self.world_size)

    def test_sparse(self):
        self.join_world()
        # The ranks have other numbers of values.
        where = [list(range(self.rank + 1))]
        x = torch.sparse_coo_tensor(where, torch.ones(self.rank + 1), (4,))
        work = dist.all_reduce(x, async_op=True)
        work.wait()
        self.assertEqual(x.to_dense()[0].item(), self.world_size)

    def test_coalescing_manager(self):
        self.join_world()
        xs = [torch.ones(2), torch.ones(3)]
        with _coalescing_manager():
            for x in xs:
                dist.all_reduce(x)
        with _coalescing_manager(async_ops=True) as later:
            for x in xs:
                dist.all_reduce(x)
        later.wait()
        for x in xs:
            x.div_(self.world_size)
        self.assertEqual(xs[1][0].item(), self.world_size)

    def test_all_reduce_coalesced(self):
        self.join_world()
        xs = [torch.ones(2), torch.ones(3)]
        work = dist.all_reduce_coalesced(xs, async_op=True)
        work.wait()
        dist.all_reduce_coalesced(xs)
        self.assertEqual(xs[0][0].item(), self.world_size**2)

    def test_monitored_barrier(self):
        self.join_world()
        dist.monitored_barrier(timeout=timedelta(seconds=60))
        dist.monitored_barrier(wait_all_ranks=True)

    def test_refused_collective(self):
        self.join_world()
        with self.assertRaises(ValueError):
            dist.all_reduce(torch.ones(2, dtype=torch.complex64), op=dist.ReduceOp.MAX)
        with self.assertRaises(RuntimeError):
            dist.all_reduce(torch.ones(2), op=dist.ReduceOp.BAND)
        with self.assertRaises(RuntimeError):
            dist.all_gather([torch.zeros(2)], torch.zeros(2))
        x = torch.ones(2)
        dist.all_reduce(x)
        self.assertEqual(x[0].item(), self.world_size)


class MoreInProcesses(ProcessPrograms, Processes):
    pass


class MoreInGroups(MoreInProcesses):
    isolation = "group"


class Compiled(Processes):
    """It takes torch seconds to import its compiler."""

    isolation = "group"
    world_size = 2

    def test_compiled(self):
        self.join_world()

        @torch.compile(backend="eager", fullgraph=True)
        def mean(x):
            return functional.all_reduce(x, "sum", dist.group.WORLD) / 2

        self.assertEqual(mean(torch.ones(2))[0].item(), self.world_size / 2)
        y = torch.ones(2)
        work = dist.all_reduce(y, async_op=True)

        @torch.compile(backend="eager", fullgraph=True)
        def twice(x):
            return x * 2

        self.assertEqual(twice(torch.ones(2))[0].item(), 2.0)
        work.wait()
