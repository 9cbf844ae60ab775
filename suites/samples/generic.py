"""Rank tests for every type of device, by PyTorch's instantiation; by pytest or by anybody."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch.testing._internal.common_device_type import instantiate_device_type_tests

from harness import (
    DistributedTestBase,
    MultiProcContinuousTest,
    MultiThreadedTestCase,
    parametrize,
)


class TestContinuous(MultiProcContinuousTest):
    world_size = 2

    @classmethod
    def backend_str(cls):
        return "gloo"

    def test_sum(self, device):
        x = torch.ones(2, device=device)
        dist.all_reduce(x)
        self.assertEqual(x, torch.full((2,), 2.0, device=device))

    @parametrize("n", [1, 2])
    def test_agree(self, device, n):
        self.assertRanksAgree(torch.ones(n, device=device))


class TestBase(DistributedTestBase):
    world_size = 2

    def setUp(self):
        super().setUp()
        self.prepared = True

    @parametrize("n", [1, 2])
    def test_sum(self, device, n):
        self.create_pg(device)
        x = torch.ones(n, device=device)
        dist.all_reduce(x)
        self.assertEqual(x.sum().item(), 2 * n)

    def tearDown(self):
        assert self.prepared
        super().tearDown()


class TestThreads(MultiThreadedTestCase):
    world_size = 2

    def test_sum(self, device):
        x = torch.ones(2, device=device)
        dist.all_reduce(x)
        self.assertEqual(x, torch.full((2,), 2.0, device=device))


for _generic in (TestContinuous, TestBase, TestThreads):
    instantiate_device_type_tests(_generic, globals(), only_for=("cpu", "cuda"))
