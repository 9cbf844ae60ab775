"""The same faults under PyTorch's own harness, for `python -m harness.bench faults`."""

from __future__ import annotations

import contextlib
import os

from torch.testing._internal.common_distributed import MultiProcessTestCase

from suites.samples.faults import FaultBodies


class WithoutFile(MultiProcessTestCase):
    def tearDown(self):
        super().tearDown()
        with contextlib.suppress(OSError):
            os.remove(self.file_name)


class Faults(FaultBodies, WithoutFile):
    """The faults that need nothing of their class but ranks."""


class NoRanks(WithoutFile):
    """A world without ranks."""

    @property
    def world_size(self):
        return 0

    def setUp(self):
        super().setUp()
        self._spawn_processes()

    def test_world_size_0(self):
        self.fail("no rank runs this")
