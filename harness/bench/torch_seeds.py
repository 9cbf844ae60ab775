"""The project's eleven original tests on PyTorch's own harness, for comparison.

Where there are not two GPUs, that harness skips ten of them.
"""

from __future__ import annotations

import contextlib
import os
import unittest
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as dist_nn
from torch import nn
from torch._C._distributed_c10d import FileStore, HashStore
from torch.nn.parallel import DistributedDataParallel
from torch.testing._internal.common_distributed import (
    MultiProcessTestCase,
    requires_gloo,
    skip_if_lt_x_gpu,
)
from torch.testing._internal.common_utils import TestCase, skip_but_pass_in_sandcastle_if

needs_gpu = skip_but_pass_in_sandcastle_if(not torch.cuda.is_available(), "needs a GPU")


class DDPSingleProcess(TestCase):
    """DDP in a world of one."""

    def setUp(self) -> None:
        super().setUp()
        dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)

    def tearDown(self) -> None:
        dist.destroy_process_group()
        super().tearDown()

    def check(self, net: nn.Module, x: torch.Tensor) -> None:
        net.to(x.device)
        device_ids = [x.device.index] if x.is_cuda else None
        ddp = DistributedDataParallel(net, device_ids=device_ids)
        y = ddp(x)
        (y[0] if isinstance(y, tuple) else y).sum().backward()
        self.assertTrue(all(p.grad is not None for p in net.parameters()))

    @requires_gloo()
    def test_cpu(self) -> None:
        self.check(nn.Linear(2, 2), torch.randn(30, 2))

    @requires_gloo()
    @needs_gpu
    def test_cuda(self) -> None:
        self.check(nn.Linear(2, 2), torch.randn(30, 2, device="cuda:0"))

    @requires_gloo()
    @needs_gpu
    def test_rnn(self) -> None:
        self.check(nn.LSTM(64, 96, 2), torch.randn(48, 64, 64, device="cuda:0"))


COLLECTIVES: dict[str, Callable[[torch.Tensor, int], Any]] = {
    "broadcast": lambda x, n: [dist_nn.broadcast(x, 0)],
    "reduce": lambda x, n: [dist_nn.reduce(x, 0)],
    "allreduce": lambda x, n: [dist_nn.all_reduce(x)],
    "all_gather": lambda x, n: dist_nn.all_gather(x),
    "all_to_all": lambda x, n: dist_nn.all_to_all([torch.empty_like(x)] * n, [x] * n),
    "all_to_all_single": lambda x, n: [dist_nn.all_to_all_single(torch.empty_like(x), x)],
    "gather": lambda x, n: dist_nn.gather(x, 0),
    "scatter": lambda x, n: [dist_nn.scatter([x] * n, 0)],
}


class NNFunctions(MultiProcessTestCase):
    """Tests the collectives of torch.distributed.nn in two ranks."""

    @property
    def world_size(self) -> int:
        return 2

    def setUp(self) -> None:
        super().setUp()
        self._spawn_processes()

    def tearDown(self) -> None:
        super().tearDown()
        with contextlib.suppress(OSError):
            os.remove(self.file_name)

    def check(self, name: str) -> None:
        store = FileStore(self.file_name, self.world_size)
        dist.init_process_group("gloo", store=store, rank=self.rank, world_size=self.world_size)
        x = torch.ones(4, 4, device=f"cuda:{self.rank}", requires_grad=True)
        sum(y.sum() for y in COLLECTIVES[name](x, self.world_size)).backward()
        self.assertIsNotNone(x.grad)


def _add_test(name: str) -> None:
    @requires_gloo()
    @skip_if_lt_x_gpu(2)
    def test(self: NNFunctions) -> None:
        self.check(name)

    test.__name__ = f"test_{name}"
    setattr(NNFunctions, test.__name__, test)


for _name in COLLECTIVES:
    _add_test(_name)

if __name__ == "__main__":
    unittest.main()
