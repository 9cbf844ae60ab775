"""`DistributedTestBase`: rank tests that name a device and get the process group that suits it."""

from __future__ import annotations

import logging
import os
import unittest
from typing import Any

import torch
import torch.distributed as dist

from harness.cases.multiprocess import MultiProcessTestCase
from harness.cases.require_torch import require_distributed
from harness.ranks.child.store import store_for_group


class DistributedTestBase(MultiProcessTestCase):
    """A rank test that brings up its process group by the device that it is run for."""

    def setUp(self) -> None:
        super().setUp()
        put_back_after(self, "WORLD_SIZE")
        os.environ["WORLD_SIZE"] = str(self.world_size)
        self._spawn_processes()

    def backend(self, device: str) -> str:
        """The backend that c10d knows for a type of device."""
        return str(dist.get_default_backend_for_device(torch.device(device)))

    def create_pg(
        self, device: str, world_size: int | None = None, backend: str | None = None
    ) -> Any:
        """Bring up the default process group; on an accelerator, each rank takes a device.

        Args:
            device: the type of device, such as "cpu" or "cuda".
            world_size: number of ranks; the test's by default.
            backend: the backend; by default the one that `backend()` has for the device.

        Returns:
            the process group.
        """
        require_distributed()
        size = self.world_size if world_size is None else world_size
        store = store_for_group(self.file_name, size)
        backend = backend or self.backend(device)
        dist.init_process_group(backend, world_size=size, rank=self.rank, store=store)
        kind = torch.device(device).type
        if kind != "cpu":
            module = torch.get_device_module(kind)
            index = self.rank % module.device_count()
            # Ranks that stay are handed on as they were.
            self.addCleanup(module.set_device, module.current_device())
            self.addCleanup(torch.set_default_device, None)
            module.set_device(index)
            torch.set_default_device(torch.device(kind, index))
        return dist.distributed_c10d._get_default_group()

    def rank_to_device(self, device: str) -> dict[int, list[int]]:
        """Rank to its devices' numbers, for a type of device: the devices go round."""
        count = max(1, torch.get_device_module(device).device_count())
        return {rank: [rank % count] for rank in range(self.world_size)}


class DynamoDistributedMultiProcTestCase(DistributedTestBase):
    """A rank for each accelerator, for tests of compiled code; decorate with `skip_if_lt_x_gpu`."""

    @property
    def world_size(self) -> int:  # type: ignore[override]
        """A rank for each accelerator of the machine."""
        return torch.accelerator.device_count()

    @classmethod
    def _run(
        cls, rank: int, test_name: str, file_name: str, parent_pipe: Any, **kwargs: Any
    ) -> None:
        # torch's compiler complains if nobody listens to its trace.
        logging.getLogger("torch.__trace").addHandler(logging.NullHandler())
        super()._run(rank, test_name, file_name, parent_pipe, **kwargs)


def put_back_after(case: unittest.TestCase, name: str) -> None:
    """Have a variable be after the test what it is now: other tests read it, too."""
    case.addCleanup(_restore, name, os.environ.get(name))


def _restore(name: str, value: str | None) -> None:
    os.environ.pop(name, None)
    if value is not None:
        os.environ[name] = value
