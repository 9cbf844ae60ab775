"""The timed test on PyTorch's own harness."""

from __future__ import annotations

import contextlib
import os

from torch.testing._internal.common_distributed import MultiProcessTestCase

from harness.bench.one_collective import all_reduce_ones


class OneCollective(MultiProcessTestCase):
    """One all-reduce in fresh processes."""

    @property
    def world_size(self) -> int:
        return int(os.environ["HARNESS_BENCH_WORLD_SIZE"])

    def setUp(self) -> None:
        super().setUp()
        self._spawn_processes()

    def tearDown(self) -> None:
        super().tearDown()
        with contextlib.suppress(OSError):
            os.remove(self.file_name)

    def test_all_reduce(self) -> None:
        all_reduce_ones(self)
