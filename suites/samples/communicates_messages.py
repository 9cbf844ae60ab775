"""Correct rank tests whose ranks communicate differently: sends and receives.

The audit must find nothing.
"""

from __future__ import annotations

import threading

import torch
import torch.distributed as dist

from harness import MultiProcessTestCase


class Messages(MultiProcessTestCase):
    world_size = 3

    def setUp(self):
        super().setUp()

    def neighbours(self):
        return (self.rank - 1) % self.world_size, (self.rank + 1) % self.world_size

    def test_ring(self):
        self.init_process_group()
        left, right = self.neighbours()
        gives, takes = torch.full((2,), float(self.rank)), torch.zeros(2)
        operations = [dist.P2POp(dist.isend, gives, right), dist.P2POp(dist.irecv, takes, left)]
        if self.rank % 2:
            operations.reverse()
        for work in dist.batch_isend_irecv(operations):
            work.wait()
        self.assertEqual(takes[0].item(), left)

    def test_ring_with_futures(self):
        self.init_process_group()
        left, right = self.neighbours()
        x, takes = torch.full((2,), float(self.rank)), torch.zeros(2)
        for _ in range(3):
            sending = dist.isend(x, right)
            dist.recv(takes, left)
            x.clone()
            sending.wait()
            x.copy_(takes)
        self.assertEqual(x[0].item(), (self.rank - 3) % 3)

    def test_blocking_line(self):
        self.init_process_group()
        x = torch.zeros(2)
        if self.rank > 0:
            dist.recv(x, self.rank - 1)
        x += 1
        if self.rank < self.world_size - 1:
            dist.send(x, self.rank + 1)
        self.assertEqual(x[0].item(), self.rank + 1.0)

    def test_tags_in_another_order(self):
        self.init_process_group()
        if self.rank == 0:
            xs = [torch.full((tag + 1,), float(tag)) for tag in range(4)]
            works = [dist.isend(x, 1, tag=tag) for tag, x in enumerate(xs)]
            for work in works:
                work.wait()
        elif self.rank == 1:
            xs = [torch.zeros(tag + 1) for tag in range(4)]
            works = [dist.irecv(xs[tag], 0, tag=tag) for tag in (2, 0, 3, 1)]
            for work in works[::-1]:
                work.wait()
            self.assertEqual([x[0].item() for x in xs], [0.0, 1.0, 2.0, 3.0])

    def test_from_any_source(self):
        self.init_process_group()
        if self.rank == 0:
            x = torch.zeros(1)
            sources = {dist.recv(x) for _ in range(self.world_size - 1)}
            self.assertEqual(sources, set(range(1, self.world_size)))
        else:
            dist.send(torch.ones(1), 0)

    def test_length_from_any_source_then_its_data(self):
        self.init_process_group()
        if self.rank == 0:
            for _ in range(self.world_size - 1):
                length = torch.zeros(1, dtype=torch.int64)
                source = dist.recv(length)
                data = torch.zeros(int(length.item()))
                dist.recv(data, source)
                self.assertEqual(data[0].item(), source)
        else:
            dist.send(torch.tensor([self.rank * 10]), 0)
            dist.send(torch.full((self.rank * 10,), float(self.rank)), 0)

    def test_any_source_after_a_known_one(self):
        self.init_process_group()
        if self.rank == 0:
            dist.recv(torch.zeros(3), 1)
            for _ in range(2):
                dist.recv(torch.zeros(1))
        elif self.rank == 1:
            dist.send(torch.ones(3), 0)
            dist.send(torch.ones(1), 0)
        else:
            dist.send(torch.ones(1), 0)

    def test_irecv_from_any_source(self):
        self.init_process_group()
        if self.rank == 0:
            x = torch.zeros(2)
            work = dist.irecv(x)
            work.wait()
            self.assertEqual(x[0].item(), 1.0)
        elif self.rank == 1:
            dist.send(torch.ones(2), 0)

    def test_objects(self):
        self.init_process_group()
        if self.rank == 0:
            dist.send_object_list(["a", {"b": [1, 2]}], dst=1)
            dist.send_object_list([3], dst=2)
        else:
            objects = [None, None] if self.rank == 1 else [None]
            self.assertEqual(dist.recv_object_list(objects, src=0), 0)
            self.assertEqual(objects, ["a", {"b": [1, 2]}] if self.rank == 1 else [3])

    def test_send_of_a_slice(self):
        self.init_process_group()
        x = torch.zeros(3, 4)
        if self.rank == 0:
            work = dist.isend(x[1], 1)
            x[0].add_(1)
            x[2] = 5
            self.assertEqual(x[1].sum().item(), 0.0)
            work.wait()
            x.zero_()
        elif self.rank == 1:
            work = dist.irecv(x[0], 0)
            x[1:].fill_(3)
            work.wait()
            x.add_(1)

    def test_chunks_received_into_one_tensor(self):
        self.init_process_group()
        if self.rank == 0:
            x = torch.zeros(2, 8)
            works = [dist.irecv(part, r + 1) for r, part in enumerate(x.unbind())]
            works[1].wait()
            self.assertEqual(x[1], torch.full((8,), 2.0))
            works[0].wait()
            self.assertEqual(x[0], torch.full((8,), 1.0))
        else:
            dist.send(torch.full((8,), float(self.rank)), 0)

    def test_same_tensor_to_several(self):
        self.init_process_group()
        x = torch.zeros(2)
        if self.rank == 0:
            x += 4
            works = [dist.isend(x, other) for other in (2, 1)]
            x.sum().item()
            for work in works:
                work.wait()
            x += 1
        else:
            dist.recv(x, 0)
            self.assertEqual(x[0].item(), 4.0)

    def test_other_shape_and_dtype_of_size(self):
        self.init_process_group()
        if self.rank == 0:
            dist.send(torch.ones(2, 3), 1)
        elif self.rank == 1:
            x = torch.zeros(6)
            dist.recv(x, 0)
            self.assertEqual(x.sum().item(), 6.0)

    def test_messages_beside_collectives(self):
        self.init_process_group()
        x, y = torch.ones(2), torch.zeros(2)
        reducing = dist.all_reduce(x, async_op=True)
        if self.rank == 0:
            dist.send(torch.ones(2), 2)
        elif self.rank == 2:
            dist.recv(y, 0)
        reducing.wait()
        self.assertEqual(x[0].item(), 3.0)

    def test_number_of_messages_depends_on_data(self):
        self.init_process_group()
        if self.rank == 0:
            x = torch.zeros(1)
            while x.item() >= 0:
                dist.recv(x, 1)
        elif self.rank == 1:
            for value in (3, 2, 1, -1):
                dist.send(torch.tensor([float(value)]), 0)

    def test_thread_with_a_group_of_its_own(self):
        self.init_process_group()
        group = dist.new_group()
        x, y = torch.ones(2), torch.ones(2)

        def communicate():
            for _ in range(5):
                dist.all_reduce(x, group=group)

        thread = threading.Thread(target=communicate)
        thread.start()
        for _ in range(3):
            dist.all_reduce(y)
        thread.join()
        self.assertEqual((x[0].item(), y[0].item()), (3.0**5, 27.0))

    def test_messages_in_a_subgroup(self):
        self.init_process_group()
        group = dist.new_group([1, 2])
        if self.rank == 1:
            dist.send(torch.ones(2), 2, group=group)
            dist.send(torch.ones(3), group=group, group_dst=1)
        elif self.rank == 2:
            x = torch.zeros(2)
            dist.recv(x, 1, group=group)
            dist.recv(torch.zeros(3), group=group, group_src=0)

    def test_empty(self):
        self.init_process_group()
        if self.rank == 0:
            dist.send(torch.ones(0), 1)
        elif self.rank == 1:
            dist.recv(torch.ones(0), 0)

    def test_broadcast_by_messages(self):
        self.init_process_group()
        x = torch.full((2,), float(self.rank))
        if self.rank == 0:
            operations = [dist.P2POp(dist.isend, x, other) for other in (1, 2)]
        else:
            operations = [dist.P2POp(dist.irecv, x, 0)]
        works = dist.batch_isend_irecv(operations)
        while works:
            works.pop().wait()
        x += 1
        self.assertEqual(x[0].item(), 1.0)


class MessagesInGroups(Messages):
    isolation = "group"
