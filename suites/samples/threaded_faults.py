"""Tests whose ranks are threads, one for each way in which they go wrong."""

from __future__ import annotations

import sys
import threading
import unittest

import torch
import torch.distributed as dist
from torch.distributed._functional_collectives import all_reduce
from torch.distributed.device_mesh import init_device_mesh

from harness import timeout
from harness.common_distributed import MultiThreadedTestCase, spawn_threads_and_init_comms

# Set by the self-test when what hangs may end.
ENOUGH = threading.Event()
MAX, MIN = dist.ReduceOp.MAX, dist.ReduceOp.MIN

# The name of newer versions of torch comes first.
reduce_scatter = getattr(dist, "reduce_scatter_single", dist.reduce_scatter_tensor)


class Faulty(MultiThreadedTestCase):
    world_size = 3

    def run_test_with_threaded_pg(self, test_name, rank, world_size):
        super().run_test_with_threaded_pg(test_name, rank, world_size)
        if test_name == "test_raise_after_all" and rank == 1:
            raise ValueError("after all")
        while test_name == "test_loop_after_all" and rank == 1:
            pass

    def perThreadSetUp(self):
        if self._testMethodName == "test_raise_in_set_up" and self.rank == 1:
            raise ValueError("set-up of rank 1")

    def perThreadTearDown(self):
        if self._testMethodName == "test_raise_in_tear_down" and self.rank == 2:
            raise ValueError("tear-down of rank 2")
        if self._testMethodName == "test_fail_before_a_hang":
            ENOUGH.wait()

    def test_fail(self):
        if self.rank == 1:
            self.fail("rank 1 is not pleased")
        dist.barrier()

    def test_fail_after_a_collective(self):
        dist.barrier()
        self.assertEqual(self.rank, 0)

    def test_fail_before_a_new_group(self):
        if self.rank == 0:
            raise ValueError("rank 0 makes no group")
        dist.new_group([0, 1, 2])

    def test_fail_before_a_hang(self):
        self.fail("the reason")

    def test_raise_after_all(self):
        pass

    @timeout(1)
    def test_loop_after_all(self):
        pass

    def test_ranks_of_a_rank(self):
        spawn_threads_and_init_comms(lambda self: None)(self)

    def test_raise_in_set_up(self):
        dist.barrier()

    def test_raise_in_tear_down(self):
        dist.barrier()

    def test_subtests(self):
        for number in range(3):
            with self.subTest(number=number):
                self.assertNotEqual(number, self.rank)
        dist.barrier()

    def test_exit(self):
        if self.rank == 2:
            sys.exit(0)
        dist.barrier()

    def test_other_collective(self):
        x = torch.ones(4)
        dist.barrier()
        if self.rank == 0:
            dist.all_reduce(x)
        else:
            dist.broadcast(x, 1)

    def test_other_size(self):
        dist.all_reduce(torch.ones(4 if self.rank else 1))

    def test_other_dtype(self):
        dist.all_reduce(torch.ones(4, dtype=torch.float64 if self.rank == 2 else torch.float32))

    def test_other_root(self):
        dist.broadcast(torch.ones(4), src=0 if self.rank else 1)

    def test_other_reduction(self):
        dist.all_reduce(torch.ones(1), dist.ReduceOp.MAX if self.rank else dist.ReduceOp.SUM)

    def test_wrong_shape_of_output(self):
        gathered = [torch.empty(2) for _ in range(3)]
        dist.all_gather(gathered, torch.ones(3))

    def test_returns_early(self):
        if self.rank != 1:
            dist.barrier()

    @timeout(1)
    def test_loop(self):
        while self.rank == 0:
            pass

    @timeout(1)
    def test_hangs_in_native_code(self):
        if self.rank == 2:
            ENOUGH.wait()
        dist.barrier()

    @unittest.expectedFailure
    def test_exit_is_no_expected_failure(self):
        sys.exit(3)


class Stuck(MultiThreadedTestCase):
    """One rank waits in each of the calls in which thread ranks can wait; its peer has gone."""

    timeout_s = 30

    @property
    def world_size(self):
        return 4 if self._testMethodName == "test_device_mesh" else 2

    def test_new_group(self):
        if self.rank == 0:
            dist.new_group([0, 1])

    def test_init_process_group(self):
        dist.destroy_process_group()
        if self.rank == 1:
            store = type(self).global_store
            dist.init_process_group("threaded", rank=1, world_size=2, store=store)

    def test_device_mesh(self):
        if self.rank == 0:
            init_device_mesh("cpu", (2, 2))

    def test_new_group_against_a_collective(self):
        if self.rank == 0:
            dist.new_group([0, 1])
        else:
            dist.barrier()

    def test_barrier(self):
        if self.rank == 1:
            dist.barrier()

    def test_all_gather_object(self):
        if self.rank == 0:
            dist.all_gather_object([None, None], "x")

    def test_functional_collective(self):
        if self.rank == 1:
            all_reduce(torch.ones(1), "sum", dist.group.WORLD).wait()

    def test_meeting(self):
        if self.rank == 0:
            self.assertRanksAgree(1)
        else:
            dist.barrier()


class CollectiveErrors(MultiThreadedTestCase):
    """Errors in collectives that the test catches; the group works afterwards."""

    world_size = 3

    def perThreadTearDown(self):
        x = torch.ones(1)
        dist.all_reduce(x)
        self.assertEqual(x.item(), 3)

    def test_in_the_work(self):
        with self.assertRaises(NotImplementedError) as caught:
            dist.all_reduce(torch.ones(2), op=dist.ReduceOp.BAND)
        if self.rank > 0:
            self.assertRegex(str(caught.exception), '^all_reduce failed on rank 0: "bitwise_and')

    def test_in_the_work_of_a_group_of_two(self):
        pair = dist.new_group([1, 2])
        if self.rank > 0:
            with self.assertRaisesRegex(RuntimeError, "must match the size") as caught:
                dist.all_gather([torch.ones(2), torch.ones(2)], torch.ones(3), group=pair)
            if self.rank == 2:
                self.assertIn("all_gather failed on rank 1: ", str(caught.exception))

    def test_again_and_again(self):
        for _ in range(50):
            with self.assertRaises(NotImplementedError):
                dist.all_reduce(torch.ones(2), op=dist.ReduceOp.BXOR)
            dist.barrier()

    def test_not_supported(self):
        x, peer = torch.ones(3), (self.rank + 1) % 3
        for name, call in (
            ("reduce", lambda: dist.reduce(x, 0)),
            ("send", lambda: dist.send(x, peer)),
            ("recv", lambda: dist.recv(x, peer)),
            ("recv", lambda: dist.recv(x)),
            ("send", lambda: dist.isend(x, peer)),
            ("recv", lambda: dist.irecv(x, peer)),
            ("send", lambda: dist.send_object_list([1], peer)),
            ("recv", lambda: dist.recv_object_list([None], peer)),
            ("reduce_scatter with MAX", lambda: dist.reduce_scatter(x[:1], [x[:1]] * 3, MAX)),
            ("reduce_scatter_single with MIN", lambda: reduce_scatter(x[:1], x, MIN)),
        ):
            said = f"^thread ranks do not support {name}: .* use MultiProcessTestCase"
            with self.assertRaisesRegex(NotImplementedError, said):
                call()
            dist.barrier()
