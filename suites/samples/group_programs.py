"""Small programs over process groups, drawn by a self-test. The ranks run what a file says.

A step is a list: `["group", number, how, ranks]`, `["use", number, collective]`, `["pause", rank,
milliseconds]`, `["destroy", number]` or `["leave", rank]`. Group -1 is the default group.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh

from harness import MultiProcessTestCase

#: The program to run, and the folder for what each rank has got out of its collectives.
PROGRAM, OUT = "SAMPLE_PROGRAM", "SAMPLE_OUT"


def all_reduce(rank, members, group):
    x = torch.tensor([float(rank + 1)])
    dist.all_reduce(x, group=group)
    return x.tolist()


def all_reduce_async(rank, members, group):
    x = torch.full((1000,), float(rank))
    dist.all_reduce(x, group=group, async_op=True).wait()
    return x[:2].tolist()


def broadcast(rank, members, group):
    x = torch.tensor([rank])
    dist.broadcast(x, src=members[0], group=group)
    return x.tolist()


def all_gather(rank, members, group):
    found = [torch.zeros(2) for _ in members]
    dist.all_gather(found, torch.full((2,), float(rank)), group=group)
    return [x.tolist() for x in found]


def barrier(rank, members, group):
    dist.barrier(group=group)
    return []


def gather_objects(rank, members, group):
    found = [None for _ in members]
    dist.all_gather_object(found, {"rank": rank}, group=group)
    return found


def send_to_next(rank, members, group):
    """The first member sends to the last one; the others do nothing."""
    x = torch.tensor([rank])
    if len(members) > 1 and rank == members[0]:
        dist.send(x, members[-1], group=group)
    elif len(members) > 1 and rank == members[-1]:
        dist.recv(x, members[0], group=group)
    return x.tolist()


COLLECTIVES = {
    f.__name__: f
    for f in (
        all_reduce,
        all_reduce_async,
        broadcast,
        all_gather,
        barrier,
        gather_objects,
        send_to_next,
    )
}


class Program(MultiProcessTestCase):
    """Runs the program in every rank; the world size is the program's."""

    @property
    def world_size(self):
        return json.loads(Path(os.environ[PROGRAM]).read_text())["ranks"]

    def test(self):
        program = json.loads(Path(os.environ[PROGRAM]).read_text())
        self.init_process_group()
        self.groups = {-1: (list(range(self.world_size)), None)}
        results = []
        for step in program["steps"]:
            if step == ["leave", self.rank]:
                break
            results += getattr(self, f"do_{step[0]}")(*step[1:])
        path = Path(os.environ[OUT], f"rank{self.rank}")
        path.write_text(json.dumps(results))

    def do_leave(self, rank):
        return []

    def do_pause(self, rank, milliseconds):
        if rank == self.rank:
            time.sleep(milliseconds / 1000)
        return []

    def do_group(self, number, how, ranks):
        if how == "mesh":
            shape = (2, self.world_size // 2) if self.world_size % 2 == 0 else (self.world_size, 1)
            mesh = init_device_mesh("cpu", shape, mesh_dim_names=("rows", "columns"))
            group = mesh.get_group("columns" if ranks else "rows")
            self.groups[number] = (dist.get_process_group_ranks(group), group)
        elif how == "all":
            self.groups[number] = (ranks, dist.new_group(ranks))
        elif self.rank in ranks:
            self.groups[number] = (ranks, dist.new_group(ranks, use_local_synchronization=True))
        return []

    def do_use(self, number, collective):
        ranks, group = self.groups.get(number, ((), None))
        if self.rank not in ranks:
            return []
        return [COLLECTIVES[collective](self.rank, ranks, group)]

    def do_destroy(self, number):
        ranks, group = self.groups.pop(number, ((), None))
        if self.rank in ranks:
            dist.destroy_process_group(group)
        return []
