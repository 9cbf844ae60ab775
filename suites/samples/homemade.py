"""A backend that torch does not know, registered with c10d as one out of its tree would be."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import ProcessGroupGloo

from harness import (
    DistributedTestBase,
    MultiProcessTestCase,
    backends,
    instantiate_parametrized_tests,
)

# It carries its data by gloo; c10d does not know that.
if "homemade" not in dist.Backend.backend_list:
    dist.Backend.register_backend(
        "homemade",
        lambda store, rank, size, timeout: ProcessGroupGloo(store, rank, size, timeout=timeout),
        devices=["cpu"],
    )
    dist.Backend.default_device_backend_map["cpu"] = "homemade"


class ByDevice(DistributedTestBase):
    world_size = 2

    def test_sum(self):
        self.assertEqual(self.backend("cpu"), "homemade")
        self.create_pg("cpu")
        self.assertEqual(dist.get_backend(), "homemade")
        x = torch.ones(2)
        dist.all_reduce(x)
        self.assertEqual(x, torch.full((2,), 2.0))

    def test_rank_to_device(self):
        self.assertEqual(self.rank_to_device("cpu"), {0: [0], 1: [0]})


@instantiate_parametrized_tests
class ByName(MultiProcessTestCase):
    world_size = 2

    @backends("gloo", "homemade")
    def test_sum(self, backend):
        self.init_process_group(backend)
        self.assertEqual(dist.get_backend(), backend)
        x = torch.ones(2, device=self.device)
        dist.all_reduce(x)
        self.assertRanksAgree(x)
