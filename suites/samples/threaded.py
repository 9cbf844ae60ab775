"""Tests whose ranks are threads: sound ones, skipped ones, and ones that gloo refuses."""

from __future__ import annotations

import sys
import unittest
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch
import torch.distributed as dist

from harness import TestCase, audit
from harness.common_distributed import (
    MultiProcessTestCase,
    MultiThreadedTestCase,
    requires_nccl,
    skip_if_lt_x_gpu,
    spawn_threads_and_init_comms,
)
from harness.common_utils import instantiate_parametrized_tests, parametrize


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


class _TakenByThreads:
    """What thread ranks take and gloo refuses; the table is in docs/writing.md."""

    world_size = 2

    def test_all_gather_of_other_sizes(self):
        dist.all_gather([torch.empty(1), torch.empty(2)], torch.ones(self.rank + 1))

    def test_gather_of_other_sizes(self):
        into = [torch.empty(1), torch.empty(2)] if self.rank == 0 else None
        dist.gather(torch.ones(self.rank + 1), into)

    @audit("off")  # which names the wrong sizes for both kinds of ranks
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
