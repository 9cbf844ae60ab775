"""Rank tests on the base classes and helpers that PyTorch's tests import."""

from __future__ import annotations

import logging
import os
from datetime import timedelta
from unittest import mock

import torch
import torch.distributed as dist

from harness.common_distributed import (
    DistributedTestBase,
    DynamoDistributedMultiProcTestCase,
    MultiProcContinuousTest,
    MultiProcessTestCase,
    run_subtests,
    skip_if_lt_x_gpu,
    with_dist_debug_levels,
)


class OnDevice(DistributedTestBase):
    world_size = 2

    def test_create_pg(self):
        group = self.create_pg("cpu")
        self.assertIs(group, dist.distributed_c10d._get_default_group())
        x = torch.ones(1)
        dist.all_reduce(x)
        self.assertEqual(x.item(), 2)

    def test_create_pg_on_a_backend(self):
        self.create_pg("cpu", backend="cpu:gloo")
        self.assertEqual(dist.get_backend_config(), "cpu:gloo")


class Compiled(DynamoDistributedMultiProcTestCase):
    @skip_if_lt_x_gpu(64)
    def test_many_gpus(self):
        raise AssertionError

    def test_trace(self):
        self.assertTrue(logging.getLogger("torch.__trace").hasHandlers())


class Continuous(MultiProcContinuousTest):
    world_size = 2
    timeout = timedelta(seconds=77)

    @classmethod
    def backend_str(cls):
        return "gloo"

    def test_group(self):
        self.assertIs(self.pg, dist.distributed_c10d._get_default_group())
        self.assertEqual((self.pg.rank(), self.pg.size()), (self.rank, self.world_size))
        x = torch.ones(1)
        dist.all_reduce(x)
        self.assertEqual(x.item(), 2)

    def test_options(self):
        self.assertEqual(self.device_type(), "cpu")
        self.assertEqual(os.environ["LOCAL_RANK"], str(self.rank))
        backend = self.pg._get_backend(torch.device("cpu"))
        self.assertEqual(backend.options._timeout, self.timeout)

    def test_fails(self):
        self.assertEqual(self.rank, 0)

    def test_skips(self):
        self.skipTest("in every rank")


class ContinuousByProperty(MultiProcContinuousTest):
    @property
    def world_size(self):
        return 2

    @classmethod
    def backend_str(cls):
        return "gloo"

    @classmethod
    def _init_pg(cls, rank, world_size, rdvz_file):
        cls.seen = cls.world_size
        super()._init_pg(rank, world_size, rdvz_file)

    def test_size(self):
        self.assertEqual((self.seen, self.world_size, self.pg.size()), (2, 2, 2))


class ForEachDevice(MultiProcContinuousTest):
    # instantiate_device_type_tests leaves a string in the method's place.
    device_type = "cpu"

    def test_size(self):
        self.assertEqual(self.world_size, torch.cpu.device_count())


class NoDevice(MultiProcContinuousTest):
    device_type = "meta"

    def setUp(self):
        find = torch.get_device_module
        # torch asks for the accelerator's module by the same function.
        modules = mock.Mock(side_effect=lambda kind: NoDevice if kind == "meta" else find(kind))
        with mock.patch.object(torch, "get_device_module", modules):
            super().setUp()

    @staticmethod
    def device_count():
        return 0

    def test_nothing(self):
        raise AssertionError


class RankForEachGpu(MultiProcContinuousTest):
    def test_nothing(self):
        raise AssertionError


class OnNccl(MultiProcContinuousTest):
    world_size = 2

    @classmethod
    def backend_str(cls):
        return "nccl"

    def test_nothing(self):
        raise AssertionError


class NoBackend(MultiProcContinuousTest):
    world_size = 2

    @classmethod
    def backend_str(cls):
        return "mpi"

    def test_nothing(self):
        raise AssertionError


class Helpers(MultiProcessTestCase):
    world_size = 2

    def test_debug_levels(self):
        self.init_process_group()
        seen = []

        @with_dist_debug_levels(["INFO", "DETAIL", "OFF"])
        def look():
            seen.append(dist.get_debug_level().name)

        before = dist.get_debug_level()
        look()
        self.assertEqual(seen, ["INFO", "DETAIL", "OFF"])
        self.assertEqual(dist.get_debug_level(), before)

    def test_subtests(self):
        self.init_process_group()
        seen = []
        run_subtests(self, {"a": [1, 2], "b": ["x"]}, lambda c, a, b: seen.append((c, a, b)), 0)
        self.assertEqual(seen, [(0, 1, "x"), (0, 2, "x")])

    def test_failing_subtests(self):
        self.init_process_group()

        def check(a, b):
            self.assertFalse(a == 2 and self.rank == 1)

        run_subtests(self, {"a": [1, 2, 3], "b": ["x", "y"]}, check)
