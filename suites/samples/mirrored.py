"""Rank tests on the base classes and helpers that PyTorch's tests import."""

from __future__ import annotations

import torch
import torch.distributed as dist

from harness.common_distributed import (
    DistributedTestBase,
    MultiProcessTestCase,
    run_subtests,
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
