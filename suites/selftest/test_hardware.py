"""What the machine has: GPUs and backends, decorators that ask for them, builds without them."""

from __future__ import annotations

import os
import unittest
from unittest import mock

import torch
import torch.distributed as dist

from harness.cases.decorators import hardware, skips
from suites.samples import mirrored
from suites.selftest.support import run_case


class TestBuildForGpusWithoutOne(unittest.TestCase):
    """torch built for CUDA, as an unpinned `pip install torch` brings it, where there is no GPU."""

    def setUp(self):
        for owner, name, value in (
            (torch.accelerator, "current_accelerator", torch.device("cuda")),
            (torch.accelerator, "device_count", 0),
            (torch.accelerator, "is_available", False),
            (torch.cuda, "device_count", 0),
            (torch.cuda, "is_available", False),
            (dist, "is_nccl_available", True),
        ):
            self.enterContext(mock.patch.object(owner, name, return_value=value))

    def skips(self, cls, reason):
        result = run_case(cls, "test_nothing")
        self.assertEqual((result.status, result.text), ("skipped", reason))

    def test_a_rank_is_on_the_cpu(self):
        case = mirrored.OnDevice("test_create_pg")
        case.rank = 1
        self.assertEqual(case.device, torch.device("cpu"))
        self.assertEqual(mirrored.Continuous.device_type(), "cpu")
        result = run_case(mirrored.Continuous, "test_group")
        self.assertEqual(result.status, "passed", result.text)

    def test_what_needs_gpus_is_skipped(self):
        self.skips(mirrored.RankForEachGpu, "this machine has no cuda device")
        self.skips(mirrored.OnNccl, "nccl needs a CUDA device, this machine has none")
        # The CPU was asked for.
        result = run_case(mirrored.ForEachDevice, "test_size")
        self.assertEqual(result.status, "passed", result.text)


class TestHardware(unittest.TestCase):
    """Decisions about accelerators, on a machine that is said to have some."""

    def runs(self, decorator):
        @decorator
        def test(self):
            return "has run"

        class Case(unittest.TestCase):
            test_it = test

        if getattr(test, "__unittest_skip__", False):
            return test.__unittest_skip_why__
        try:
            return Case("test_it").test_it()
        except unittest.SkipTest as skip:
            return str(skip)

    def with_gpus(self, count):
        for module in (hardware, skips):
            self.enterContext(mock.patch.object(module, "accelerator_count", return_value=count))

    def test_shares_of_gpus(self):
        for count, size, shares in (
            (0, 2, {0: [], 1: []}),
            (2, 2, {0: [0], 1: [1]}),
            (4, 2, {0: [0], 1: [1]}),
            (2, 3, {0: [], 1: [], 2: []}),
        ):
            self.with_gpus(count)
            self.assertEqual(hardware.init_multigpu_helper(size, "nccl"), shares)

    def test_counts(self):
        self.with_gpus(2)
        self.assertTrue(hardware.at_least_x_gpu(2))
        self.assertFalse(hardware.at_least_x_gpu(3))
        for n, backend, outcome in (
            (2, "nccl", "has run"),
            (3, "nccl", "needs at least 3 GPUs, this machine has 2"),
            (3, "gloo", "has run"),
        ):
            decorator = hardware.require_n_gpus_for_nccl_backend(n, backend)
            self.assertEqual(self.runs(decorator), outcome)
        self.with_gpus(0)
        self.assertFalse(hardware.at_least_x_gpu(0))

    def test_backends(self):
        with mock.patch.object(hardware, "backend_is_available", lambda name: name == "xccl"):
            decorate = hardware.requires_accelerator_dist_backend
            self.assertEqual(self.runs(decorate()), "has run")
            reason = "none of the backends nccl, hccl is available"
            self.assertEqual(self.runs(decorate(["nccl", "hccl"])), reason)
            self.assertEqual(
                self.runs(decorate(["gloo"])), "none of the backends gloo is available"
            )

    def test_versions_of_nccl(self):
        with (
            mock.patch.object(hardware.flags, "TEST_CUDA", True),
            mock.patch.object(hardware, "backend_is_available", return_value=True),
            mock.patch.object(torch.cuda.nccl, "version", return_value=(2, 21, 5)),
        ):
            decorate = hardware.requires_nccl_version
            self.assertEqual(self.runs(decorate((2, 21), "x")), "has run")
            self.assertEqual(
                self.runs(hardware.requires_nccl_shrink()),
                "needs NCCL 2.27, found 2.21.5: shrink_group",
            )
        with mock.patch.object(hardware.flags, "TEST_CUDA", False):
            self.assertEqual(self.runs(hardware.requires_nccl_shrink()), "has run")

    def test_rocm(self):
        properties = mock.Mock(gcnArchName="gfx942:sramecc+")
        with (
            mock.patch.object(hardware.flags, "TEST_WITH_ROCM", True),
            mock.patch.object(torch.cuda, "get_device_properties", return_value=properties),
            mock.patch.object(torch.version, "hip", "6.1.40091-a8dbc0c19"),
        ):
            self.assertEqual(self.runs(hardware.skip_if_rocm_multiprocess), "does not run on ROCm")
            arch = hardware.skip_if_rocm_arch_multiprocess
            self.assertEqual(self.runs(arch(("gfx942",))), "does not run on gfx942")
            self.assertEqual(self.runs(arch(("gfx90a",))), "has run")
            version = hardware.skip_if_rocm_ver_lessthan_multiprocess
            self.assertEqual(self.runs(version((6, 1))), "has run")
            self.assertEqual(self.runs(version((6, 2))), "needs ROCm 6.2, found 6.1.40091")
            self.assertEqual(self.runs(version()), "does not run on ROCm")
            older = hardware.skip_if_rocm_ver_atleast_multiprocess
            self.assertEqual(self.runs(older((6, 2))), "has run")
            self.assertEqual(
                self.runs(older((6, 1))), "needs a ROCm older than 6.1, found 6.1.40091"
            )
            self.assertEqual(self.runs(older()), "has run")
        for decorator in (
            hardware.skip_if_rocm_multiprocess,
            hardware.skip_if_rocm_arch_multiprocess(("gfx942",)),
            hardware.skip_if_rocm_ver_lessthan_multiprocess((9, 9)),
            hardware.skip_if_rocm_ver_atleast_multiprocess((0, 1)),
        ):
            self.assertEqual(self.runs(decorator), "has run")

    @unittest.skipIf(torch.cuda.is_available(), "for a machine without GPUs")
    def test_multicast(self):
        reason = "needs GPUs with multicast, this machine has none"
        self.assertEqual(self.runs(hardware.requires_multicast_support()), reason)

    def test_transformers(self):
        decorator = hardware.import_transformers_or_skip()
        with mock.patch.object(hardware.importlib.util, "find_spec", return_value=None):
            self.assertEqual(self.runs(decorator), "the package transformers is not installed")
        with mock.patch.object(hardware.importlib.util, "find_spec", return_value=object()):
            self.assertEqual(self.runs(decorator), "has run")

    def test_blocking_wait(self):
        names = ("TORCH_NCCL_BLOCKING_WAIT", "TORCH_NCCL_ASYNC_ERROR_HANDLING")

        @hardware.with_nccl_blocking_wait
        def look():
            return [os.environ.get(name) for name in names]

        with mock.patch.dict(os.environ, {names[1]: "3"}):
            os.environ.pop(names[0], None)
            self.assertEqual(look(), ["1", None])
            self.assertEqual([os.environ.get(name) for name in names], [None, "3"])

    def test_devices_of_ddp(self):
        self.assertTrue(hardware.requires_ddp_rank("cuda"))
        self.assertFalse(hardware.requires_ddp_rank("cpu"))
