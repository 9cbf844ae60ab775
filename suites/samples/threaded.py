"""Tests whose ranks are threads: sound ones, and one for each way in which they go wrong."""

from __future__ import annotations

import sys
import threading
import unittest
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch
import torch.distributed as dist
from torch.distributed._functional_collectives import all_reduce
from torch.distributed.device_mesh import init_device_mesh

from harness import TestCase, timeout
from harness.common_distributed import (
    MultiProcessTestCase,
    MultiThreadedTestCase,
    requires_nccl,
    skip_if_lt_x_gpu,
    spawn_threads_and_init_comms,
)
from harness.common_utils import instantiate_parametrized_tests, parametrize

# Set by the self-test when what hangs may end.
ENOUGH = threading.Event()

MAX, MIN = dist.ReduceOp.MAX, dist.ReduceOp.MIN
# The name of newer versions of torch comes first.
reduce_scatter = getattr(dist, "reduce_scatter_single", dist.reduce_scatter_tensor)


class Sound(MultiThreadedTestCase):
    world_size = 3

    def setUp(self):
        super().setUp()
        # As tests for PyTorch's class have to.
        self._spawn_threads()

    def perThreadSetUp(self):
        self.size = dist.get_world_size()

    def perThreadTearDown(self):
        # The process group is still there, if the test has not destroyed it.
        if dist.is_initialized():
            dist.barrier()

    def test_collectives(self):
        self.assertEqual((dist.get_rank(), self.size), (self.rank, 3))
        x = torch.full((2,), float(self.rank))
        dist.all_reduce(x)
        self.assertEqual(x, torch.full((2,), 3.0))
        gathered = [torch.empty(1) for _ in range(3)]
        dist.all_gather(gathered, torch.tensor([float(self.rank)]))
        self.assertEqual(torch.cat(gathered), torch.arange(3.0))
        out = torch.empty(1)
        dist.reduce_scatter(out, [torch.ones(1)] * 3)
        self.assertEqual(out.item(), 3)
        dist.scatter(out, [torch.ones(1)] * 3 if self.rank == 1 else None, src=1)
        parts = torch.empty(3)
        dist.all_to_all_single(parts, torch.full((3,), float(self.rank)))
        self.assertEqual(parts, torch.arange(3.0))

    def test_groups(self):
        pair = dist.new_group([1, 2])
        if self.rank > 0:
            x = torch.ones(1)
            dist.broadcast(x, 2, group=pair)
            # Groups go and come back with the same name.
            dist.destroy_process_group(pair)
        dist.barrier()

    def test_objects(self):
        found = [None] * 3
        dist.all_gather_object(found, {"rank": self.rank})
        self.assertEqual(found, [{"rank": rank} for rank in range(3)])
        shared = [self.rank]
        dist.broadcast_object_list(shared, src=2)
        self.assertEqual(shared, [2])

    def test_a_rank_that_waits_in_python(self):
        dist.barrier()
        if self.rank == 0:
            x = sum(range(200_000))
            self.assertGreater(x, 0)
        dist.barrier()

    def test_asserts_on_one_rank(self):
        self.assertEqualOnRank(self.rank, 2, rank=2)
        self.assertNotEqualOnRank(self.rank, 1, rank=0)

    def test_cleanups_in_ranks(self):
        self.addCleanup(dist.barrier)

    @unittest.expectedFailure
    def test_expected_failure(self):
        self.assertEqual(self.rank, 1)

    def test_collectives_on_a_thread_of_the_rank(self):
        group = dist.distributed_c10d._get_default_group()
        with ThreadPoolExecutor(1) as pool:
            x = torch.ones(1)
            pool.submit(dist.all_reduce, x, group=group).result()
        self.assertEqual(x.item(), 3)

    def test_names_of_groups_come_back(self):
        for pair, call in (
            ([0, 1], dist.all_reduce),
            ([0, 2], partial(dist.broadcast, src=2)),
            ([1, 2], dist.all_reduce),
        ):
            dist.destroy_process_group()
            store = type(self).global_store
            dist.init_process_group("threaded", rank=self.rank, world_size=3, store=store)
            group = dist.new_group(pair)
            if self.rank in pair:
                call(torch.ones(1), group=group)

    def test_shapes_that_fit(self):
        dist.broadcast(torch.ones((1, 4) if self.rank else 4), 0)
        gathered = [torch.empty(rank + 1) for rank in range(3)]
        dist.all_gather(gathered, torch.ones(self.rank + 1))
        self.assertEqual(torch.cat(gathered), torch.ones(6))

    def test_a_backend_of_its_own(self):
        if self.rank == 0:
            dist.Backend.register_backend("of_a_rank", lambda *args: None, devices=["cpu"])
        dist.barrier()

    def test_group_is_destroyed_by_the_test(self):
        dist.destroy_process_group()

    def tearDown(self):
        super().tearDown()
        self.assertEqual(self.threads, [])


@instantiate_parametrized_tests
class Sizes(MultiThreadedTestCase):
    @property
    def world_size(self):
        return int(self._testMethodName.rpartition("_")[2])

    @parametrize("size", [1, 2, 3, 4, 8])
    def test_sum(self, size):
        x = torch.ones(1)
        dist.all_reduce(x)
        self.assertEqual(x.item(), size)


class Skipping(MultiThreadedTestCase):
    world_size = 2

    def test_all(self):
        self.skipTest("not today")

    def test_exit_code(self):
        sys.exit(86)

    @skip_if_lt_x_gpu(64)
    def test_gpus(self):
        raise AssertionError

    @requires_nccl()
    def test_nccl(self):
        raise AssertionError

    def test_exit_code_after_a_collective(self):
        dist.barrier()
        sys.exit(86)

    def test_one(self):
        if self.rank == 1:
            self.skipTest("not me")

    def test_one_while_the_other_waits(self):
        if self.rank == 1:
            self.skipTest("not me")
        dist.barrier()


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


class _TakenByThreads:
    """What thread ranks take and gloo refuses; the table is in docs/writing.md."""

    world_size = 2

    def test_all_gather_of_other_sizes(self):
        dist.all_gather([torch.empty(1), torch.empty(2)], torch.ones(self.rank + 1))

    def test_gather_of_other_sizes(self):
        into = [torch.empty(1), torch.empty(2)] if self.rank == 0 else None
        dist.gather(torch.ones(self.rank + 1), into)

    def test_all_gather_that_broadcasts(self):
        dist.all_gather([torch.empty(4), torch.empty(4)], torch.ones(1))

    def test_all_to_all_of_what_is_not_contiguous(self):
        x = torch.arange(8.0).reshape(2, 4).t()
        out = torch.empty(4, 2)
        dist.all_to_all_single(out, x)
        self.assertEqual(out, torch.cat([x[2 * self.rank :][:2]] * 2))


class TakenByThreads(_TakenByThreads, MultiThreadedTestCase):
    pass


class RefusedByGloo(_TakenByThreads, MultiProcessTestCase):
    def perRankSetUp(self):
        self.init_process_group()


class NoRun(MultiThreadedTestCase):
    world_size = 2

    @classmethod
    def _run(cls, test_name, rank, world_size, **kwargs):
        """Forgets to run the test."""

    def test_nothing(self):
        raise AssertionError


class RunsTwice(MultiThreadedTestCase):
    world_size = 2

    @classmethod
    def _run(cls, test_name, rank, world_size, **kwargs):
        for cls.turn in (1, 2):
            self = cls(test_name)
            self.rank = rank
            self.run_test_with_threaded_pg(test_name, rank, world_size)

    def test_fails_the_second_time(self):
        dist.barrier()
        self.assertEqual(type(self).turn, 1)


class Decorated(TestCase):
    @spawn_threads_and_init_comms(world_size=2)
    def test_sum(self):
        x = torch.ones(1)
        dist.all_reduce(x)
        self.assertEqual(x.item(), 2)

    @spawn_threads_and_init_comms(world_size=2)
    def test_fail(self):
        self.assertEqual(dist.get_rank(), 0)

    @spawn_threads_and_init_comms
    def test_skip(self):
        self.skipTest("not today")

    def test_inner_function(self):
        seen = []

        @spawn_threads_and_init_comms
        def inner(self, factor):
            seen.append(dist.get_rank() * factor)
            dist.barrier()
            if dist.get_rank() == 3:
                raise ValueError("rank 3")
            dist.barrier()

        with self.assertRaisesRegex(RuntimeError, "ValueError: rank 3"):
            inner(self, factor=2)
        self.assertEqual(sorted(seen), [0, 2, 4, 6])
