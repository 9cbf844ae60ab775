"""Parametrised rank tests in processes that stay, one of which fails; by pytest or by anybody."""

from __future__ import annotations

import torch
import torch.distributed as dist

from harness import MultiProcContinuousTest, instantiate_parametrized_tests, parametrize


@instantiate_parametrized_tests
class TestParametrized(MultiProcContinuousTest):
    world_size = 2

    @classmethod
    def backend_str(cls):
        return "gloo"

    @parametrize("n", [1, 2, 3])
    def test_sum(self, n):
        x = torch.ones(n)
        dist.all_reduce(x)
        self.assertEqual(x.sum().item(), 2 * n)

    def test_fails(self):
        self.assertEqual(self.rank, self.world_size)

    def test_last(self):
        dist.barrier()
