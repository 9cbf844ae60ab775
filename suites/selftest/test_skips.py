"""Skip decorators: which conditions skip a test before any process starts, and for which reason."""

from __future__ import annotations

import os
import unittest
from unittest import mock

from harness import MultiProcessTestCase
from suites.selftest.support import run_case


class TestSkippedBeforeAnyProcess(unittest.TestCase):
    def skips(self, decorator, **attributes):
        """The reason with which a rank test so decorated is skipped, with no process started."""

        class Decorated(MultiProcessTestCase):
            world_size = 3

            def setUp(self):
                super().setUp()
                self._spawn_processes()

            @decorator
            def test(self):
                pass

        for name, value in attributes.items():
            setattr(Decorated, name, value)
        with mock.patch("harness.cases.process_ranks.launcher") as launcher:
            result = run_case(Decorated, "test")
        launcher().factory.assert_not_called()
        self.assertEqual(result.status, "skipped", result.text)
        return result.text

    def test_too_few_gpus(self):
        from harness import nccl_skip_if_lt_x_gpu, requires_world_size, skip_if_lt_x_gpu

        with mock.patch("harness.cases.decorators.skips.accelerator_count", return_value=1):
            reason = "needs at least 2 GPUs, this machine has 1"
            self.assertEqual(self.skips(skip_if_lt_x_gpu(2)), reason)
            self.assertEqual(self.skips(nccl_skip_if_lt_x_gpu("nccl", 2)), reason)
            self.assertEqual(self.skips(requires_world_size(2)), reason)

    def test_no_gpu_for_each_rank(self):
        from harness import skip_if_no_gpu

        self.assertEqual(self.skips(skip_if_no_gpu), "CUDA is not available")
        with mock.patch("harness.cases.decorators.skips.accelerator_count", return_value=2):
            self.assertEqual(
                self.skips(skip_if_no_gpu), "needs a GPU for each of 3 ranks, this machine has 2"
            )

    def test_world_size(self):
        from harness import skip_if_odd_worldsize, skip_if_small_worldsize

        self.assertEqual(
            self.skips(skip_if_odd_worldsize), "needs an even number of ranks, the world size is 3"
        )
        self.assertEqual(
            self.skips(skip_if_small_worldsize, world_size=7),
            "needs at least 8 ranks, the world size is 7",
        )

    def test_missing_backend(self):
        from harness.cases.decorators import skips

        for name in ("gloo", "nccl", "ucc", "mpi"):
            with mock.patch.object(skips, "backend_is_available", return_value=False):
                decorator = getattr(skips, f"requires_{name}")()
            self.assertEqual(self.skips(decorator), f"torch was built without the {name} backend")

    def test_the_outermost_reason_is_given(self):
        from harness import skip_if_lt_x_gpu, skip_if_odd_worldsize

        def both(test):
            return skip_if_lt_x_gpu(2)(skip_if_odd_worldsize(test))

        self.assertIn("GPUs", self.skips(both))


class TestNotSkipped(unittest.TestCase):
    def test_conditions_that_are_met(self):
        from harness import (
            nccl_skip_if_lt_x_gpu,
            requires_gloo,
            skip_if_lt_x_gpu,
            skip_if_odd_worldsize,
            skip_if_win32,
        )

        class Plain(unittest.TestCase):
            world_size = 2

            @requires_gloo()
            @skip_if_win32()
            @skip_if_odd_worldsize
            @skip_if_lt_x_gpu(2, allow_cpu=True)
            @nccl_skip_if_lt_x_gpu("gloo", 4)
            def test(self):
                type(self).ran = True

        self.assertEqual(run_case(Plain, "test").status, "passed")
        self.assertTrue(Plain.ran)

    def test_a_class_without_ranks_is_skipped_too(self):
        from harness import skip_if_lt_x_gpu

        class Plain(unittest.TestCase):
            @skip_if_lt_x_gpu(2)
            def test(self):
                raise AssertionError

        self.assertEqual(run_case(Plain, "test").status, "skipped")

    def test_small_worlds_are_enough_for_mpi(self):
        from harness import skip_if_small_worldsize

        class Plain(unittest.TestCase):
            world_size = 2

            @skip_if_small_worldsize
            def test(self):
                pass

        with mock.patch.dict(os.environ, BACKEND="mpi"):
            self.assertEqual(run_case(Plain, "test").status, "passed")
