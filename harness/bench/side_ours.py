"""The timed test on our harness."""

from __future__ import annotations

import os

from harness.bench.one_collective import all_reduce_ones
from harness.cases.classes import MultiProcessTestCase


class OneCollective(MultiProcessTestCase):
    """One all-reduce in fresh processes."""

    @property
    def world_size(self) -> int:  # type: ignore[override]
        return int(os.environ["HARNESS_BENCH_WORLD_SIZE"])

    def setUp(self) -> None:
        super().setUp()
        self._spawn_processes()

    def test_all_reduce(self) -> None:
        all_reduce_ones(self)
