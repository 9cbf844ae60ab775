"""Correct rank tests whose ranks communicate differently: several groups, meshes.

The audit must find nothing.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor

from suites.samples.communicates import Processes, Threads


class GroupPrograms:
    """Programs for processes and threads, of four ranks."""

    world_size = 4

    def total(self, group=None):
        x = torch.ones(1)
        dist.all_reduce(x, group=group)
        return x.item()

    def test_rows_and_columns(self):
        self.join_world()
        rows = [dist.new_group([0, 1]), dist.new_group([2, 3])]
        columns = [dist.new_group([0, 2]), dist.new_group([1, 3])]
        for _ in range(3):
            self.assertEqual(self.total(rows[self.rank // 2]), 2.0)
            self.assertEqual(self.total(columns[self.rank % 2]), 2.0)
        self.assertEqual(self.total(), 4.0)

    def test_a_pipeline_of_groups(self):
        self.join_world()
        pairs = [dist.new_group([i, i + 1]) for i in range(3)]
        # Rank 0 begins with pair 0, rank 3 with pair 2; each rank goes from the left to the right.
        for i, pair in enumerate(pairs):
            if self.rank in (i, i + 1):
                self.total(pair)

    def test_other_numbers_of_calls_in_each_group(self):
        self.join_world()
        pair, rest = dist.new_group([0, 1]), dist.new_group([2, 3])
        for _ in range(4 if self.rank < 2 else 1):
            self.total(pair if self.rank < 2 else rest)
        self.total()

    def test_groups_with_one_member(self):
        self.join_world()
        groups = [dist.new_group([i]) for i in range(4)]
        for _ in range(self.rank):
            self.assertEqual(self.total(groups[self.rank]), 1.0)

    def test_members_in_another_order(self):
        self.join_world()
        ranks = [2, 0] if self.rank % 2 else [0, 2]
        group = dist.new_group(ranks)
        if self.rank in ranks:
            self.total(group)

    def test_all_ranks_named_or_not(self):
        self.join_world()
        group = dist.new_group() if self.rank else dist.new_group([0, 1, 2, 3])
        self.assertEqual(self.total(group), 4.0)

    def test_group_is_made_again(self):
        self.join_world()
        for ranks in ([0, 1], [1, 2, 3], [1, 2, 3], [0, 1]):
            group = dist.new_group(ranks)
            if self.rank in ranks:
                self.assertEqual(self.total(group), float(len(ranks)))
                dist.destroy_process_group(group)
        self.total()

    def test_roots_in_subgroups(self):
        self.join_world()
        groups = [dist.new_group([0, 1]), dist.new_group([2, 3])]
        x = torch.full((1,), float(self.rank))
        root = self.rank // 2 * 2 + 1
        dist.broadcast(x, src=root, group=groups[self.rank // 2])
        self.assertEqual(x.item(), root)

    def test_subgroups(self):
        self.join_world()
        mine, _ = dist.new_subgroups(2)
        self.assertEqual(self.total(mine), 2.0)
        mine, _ = dist.new_subgroups_by_enumeration([[0, 3], [1, 2]])
        self.assertEqual(self.total(mine), 2.0)

    def test_group_of_members_only(self):
        self.join_world()
        if self.rank in (1, 3):
            group = dist.new_group([1, 3], use_local_synchronization=True)
            self.assertEqual(self.total(group), 2.0)
        self.total()

    def test_mesh(self):
        self.join_world()
        mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("rows", "columns"))
        for name in ("rows", "columns"):
            self.assertEqual(self.total(mesh[name].get_group()), 2.0)
        line = init_device_mesh("cpu", (4,))
        self.assertEqual(self.total(line.get_group()), 4.0)

    def test_dtensor_placements(self):
        self.join_world()
        mesh = init_device_mesh("cpu", (4,))
        # Six rows on four ranks: they have other numbers of rows.
        full = torch.arange(30.0).view(6, 5)
        placements = [Replicate(), Shard(0), Shard(1)]
        for source in placements:
            x = distribute_tensor(full, mesh, [source])
            for target in placements:
                y = x.redistribute(placements=[target])
                self.assertEqual(y.full_tensor(), full)
        partial = DTensor.from_local(torch.ones(6, 5), mesh, [Partial()])
        for target in placements:
            self.assertEqual(partial.redistribute(placements=[target]).full_tensor()[0, 0], 4.0)

    def test_dtensor_on_two_dimensions(self):
        self.join_world()
        mesh = init_device_mesh("cpu", (2, 2))
        full = torch.arange(16.0).view(4, 4)
        x = distribute_tensor(full, mesh, [Shard(0), Shard(1)])
        y = distribute_tensor(full, mesh, [Replicate(), Shard(0)])
        self.assertEqual((x @ y).full_tensor(), full @ full)
        self.assertEqual(x.redistribute(placements=[Shard(1), Replicate()]).full_tensor(), full)
        self.assertEqual(x.sum().full_tensor().item(), full.sum().item())

    def test_two_groups_in_flight(self):
        self.join_world()
        one, two = dist.new_group(), dist.new_group()
        x, y = torch.ones(2), torch.ones(3)
        works = [
            dist.all_reduce(x, group=one, async_op=True),
            dist.all_reduce(y, group=two, async_op=True),
        ]
        for work in works if self.rank % 2 else works[::-1]:
            work.wait()
        self.assertEqual((x[0].item(), y[0].item()), (4.0, 4.0))

    def test_some_ranks_do_more(self):
        self.join_world()
        group = dist.new_group([1, 2])
        if self.rank in (1, 2):
            work = dist.all_reduce(torch.ones(2), group=group, async_op=True)
            self.total()
            work.wait()
        else:
            self.total()

    def test_world_is_made_again(self):
        self.join_world()
        self.total()
        group = dist.new_group([0, 1])
        if self.rank < 2:
            self.total(group)


class GroupsInProcesses(GroupPrograms, Processes):
    world_size = 4

    def test_world_is_destroyed_and_made_again(self):
        self.init_process_group()
        self.total()
        dist.destroy_process_group()
        store = dist.FileStore(self.file_name + "again", 4)
        # The ranks number themselves anew.
        rank = 3 - self.rank
        dist.init_process_group("gloo", store=store, rank=rank, world_size=4)
        self.total()
        x = torch.full((1,), float(rank))
        if rank == 0:
            dist.send(x, 1)
        elif rank == 1:
            dist.recv(x, 0)
        group = dist.new_group([0, 1, 2])
        if rank < 3:
            self.total(group)
            dist.broadcast(x, src=1, group=group)
        dist.destroy_process_group()

    def test_two_worlds(self):
        half = self.rank // 2
        store = dist.FileStore(f"{self.file_name}{half}", 2)
        dist.init_process_group("gloo", store=store, rank=self.rank % 2, world_size=2)
        for _ in range(half + 1):
            self.assertEqual(self.total(), 2.0)
        if half:
            self.total(dist.new_group([0, 1]))
        dist.destroy_process_group()

    def test_world_of_some(self):
        if self.rank > 1:
            return
        store = dist.FileStore(self.file_name, 2)
        dist.init_process_group("gloo", store=store, rank=self.rank, world_size=2)
        self.assertEqual(self.total(), 2.0)
        self.assertEqual(self.total(dist.new_group([0, 1])), 2.0)
        dist.destroy_process_group()


class GroupsInGroups(GroupPrograms, Processes):
    world_size = 4
    isolation = "group"


class GroupsInThreads(GroupPrograms, Threads):
    world_size = 4
