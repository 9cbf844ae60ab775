"""The classes that tests inherit from, under PyTorch's names: each is one mixin plus `TestCase`."""

from __future__ import annotations

import logging
import os
import unittest
from typing import Any

import torch
import torch.distributed as dist

from harness.cases.continuous_mixin import ContinuousTestMixin
from harness.cases.process_mixin import RankTestMixin
from harness.cases.require_torch import require_distributed
from harness.cases.testcase import TestCase
from harness.cases.thread_mixin import ThreadTestMixin
from harness.ranks import this_rank


class MultiProcessTestCase(RankTestMixin, TestCase):
    """A TestCase whose test methods run in every rank of a world of their own.

    In a test method, `self.rank` and `self.world_size` say who is running, and
    `self.init_process_group()` brings up a process group::

        class TestSum(MultiProcessTestCase):
            world_size = 2

            def test_all_reduce(self):
                self.init_process_group()
                x = torch.ones(3)
                dist.all_reduce(x)
                self.assertEqual(x, torch.full((3,), 2.0))

    The test passes only if every rank ran the method to its end. `setUp` and `tearDown` run in the
    parent, `perRankSetUp` and `perRankTearDown` in each rank. Where `setUp` has not called
    `_spawn_processes()`, as tests for PyTorch's class do, the harness does so when the test runs.

    Attributes:
        world_size: number of ranks, 4 unless the class or a decorator says otherwise.
        rank: this process's rank; MAIN_PROCESS_RANK in the parent.
        device: this rank's accelerator, or the CPU.
        isolation: what a test shares with the test before it; None for HARNESS_ISOLATION, or
            "process" if that is unset.
        file_name: an empty file, the same for all ranks, for a FileStore.
        processes: in the parent, the processes by rank (pid, exitcode, kill(), …).
        special_return_code_checks: in the parent, test method to expected exit code, negative for
            a signal. Rank 0 must exit with it, the other ranks may.
        skip_return_code_checks: in the parent, test methods whose ranks may exit with any code.

    Raises (from the test, in the parent):
        RanksFailedError: an assertion failed (a unittest failure).
        RanksRaisedError, RanksDiedError, RanksTimedOutError, RanksDisagreeError: errors.
    """


class DistributedTestBase(MultiProcessTestCase):
    """A rank test that chooses the backend of its process group by device type."""

    def setUp(self) -> None:
        super().setUp()
        restore_after(self, "WORLD_SIZE")
        os.environ["WORLD_SIZE"] = str(self.world_size)
        self._spawn_processes()

    def backend(self, device: str) -> str:
        """Return c10d's default backend for a device type."""
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
        store = this_rank.store().for_group(self.file_name, size)
        backend = backend or self.backend(device)
        dist.init_process_group(backend, world_size=size, rank=self.rank, store=store)
        kind = torch.device(device).type
        if kind != "cpu":
            module = torch.get_device_module(kind)
            index = self.rank % module.device_count()
            # The next test may reuse this rank (isolation "group" or "none").
            self.addCleanup(module.set_device, module.current_device())
            self.addCleanup(torch.set_default_device, None)
            module.set_device(index)
            torch.set_default_device(torch.device(kind, index))
        return dist.distributed_c10d._get_default_group()

    def rank_to_device(self, device: str) -> dict[int, list[int]]:
        """Return rank to device indices for a device type; ranks take the devices in turn."""
        count = max(1, torch.get_device_module(device).device_count())
        return {rank: [rank % count] for rank in range(self.world_size)}


class DynamoDistributedMultiProcTestCase(DistributedTestBase):
    """A rank for each accelerator, for tests of compiled code; decorate with `skip_if_lt_x_gpu`."""

    @property
    def world_size(self) -> int:  # type: ignore[override]
        """Return the number of accelerators: one rank for each."""
        return torch.accelerator.device_count()

    @classmethod
    def _run(
        cls, rank: int, test_name: str, file_name: str, parent_pipe: Any, **kwargs: Any
    ) -> None:
        # torch's compiler complains if this logger has no handler (torch 2.13).
        logging.getLogger("torch.__trace").addHandler(logging.NullHandler())
        super()._run(rank, test_name, file_name, parent_pipe, **kwargs)


def restore_after(case: unittest.TestCase, name: str) -> None:
    """Restore an environment variable after the test: other tests in this process read it too."""
    case.addCleanup(_restore, name, os.environ.get(name))


def _restore(name: str, value: str | None) -> None:
    os.environ.pop(name, None)
    if value is not None:
        os.environ[name] = value


class MultiProcContinuousTest(ContinuousTestMixin, TestCase):
    """A TestCase whose test methods run in every rank of a world, with the process group up.

    The class configures both: `backend_str()`, `opts()` and `timeout` for the process group,
    `device_type()` and `world_size` for the ranks::

        class TestSum(MultiProcContinuousTest):
            world_size = 2

            @classmethod
            def backend_str(cls):
                return "gloo"

            def test_all_reduce(self):
                x = torch.ones(3)
                dist.all_reduce(x)
                self.assertEqual(x, torch.full((3,), 2.0))

    Tests share the ranks and the process group as long as each test leaves them unchanged (see
    `isolation`). Unlike with PyTorch's class of this name, a test that fails, hangs or skips does
    not affect other tests: the next one gets a fresh world.

    Attributes:
        world_size: number of ranks; by default one for each device.
        rank: this process's rank; MAIN_PROCESS_RANK in the parent.
        pg: in a rank, the default process group.
        timeout: the process group's timeout.
        isolation: "none" unless the class or the environment says otherwise. "group" gives each
            test its own process group, "process" its own processes too.

    Raises (from the test, in the parent):
        RanksFailedError: an assertion failed (a unittest failure).
        RanksRaisedError, RanksDiedError, RanksTimedOutError, RanksDisagreeError: errors.
    """


class MultiThreadedTestCase(ThreadTestMixin, TestCase):
    """A TestCase whose test methods run in every rank of a world of threads of this process.

    It starts in a millisecond, and a debugger sees all ranks. The process group is up when the
    method begins; its collectives copy between the threads::

        class TestSum(MultiThreadedTestCase):
            world_size = 2

            def test_all_reduce(self):
                x = torch.ones(3)
                dist.all_reduce(x)
                self.assertEqual(x, torch.full((3,), 2.0))

    Ranks share all memory: global state, environment, and one Python interpreter lock. Each rank
    has its own random generators (torch's for the CPU, Python's and NumPy's), with the same seed.
    The harness can report a rank that hangs in native code, but cannot end it. Use
    `MultiProcessTestCase` where that matters.

    The test passes only if every rank ran the method to its end and all called the same
    collectives. `setUp` and `tearDown` run once, `perThreadSetUp` and `perThreadTearDown` in each
    rank. Where `setUp` has not called `_spawn_threads()`, as tests for PyTorch's class do, the
    harness does so when the test runs.

    Attributes:
        world_size: number of ranks, 4 unless the class or a decorator says otherwise.
        rank: the thread's rank; MAIN_THREAD_RANK outside the ranks.
        threads: outside the ranks, the threads by rank.

    Raises (from the test):
        RanksFailedError: an assertion failed (a unittest failure).
        RanksRaisedError, RanksDiedError, RanksTimedOutError, RanksDisagreeError: errors.
    """
