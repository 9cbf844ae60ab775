"""Measure what the audit costs: milliseconds of a test at each level."""

from __future__ import annotations

import argparse
import os
import time
import unittest
from statistics import median
from typing import Any

import torch
import torch.distributed as dist

from harness.bench.table import Report
from harness.cases.classes import MultiProcessTestCase
from harness.model import settings
from harness.model.communication import AUDIT_LEVELS

NAME = "audit"
HELP = "the time of a test with 0, 20 and 200 collectives at each level of the audit"

COLLECTIVES = (0, 20, 200)


class Collectives(MultiProcessTestCase):
    """Tests with some all_reduce in a row."""

    world_size = 2

    def _call(self, collectives: int) -> None:
        self.init_process_group()
        x = torch.ones(4)
        for _ in range(collectives):
            dist.all_reduce(x)

    def test_0(self) -> None:
        self._call(0)

    def test_20(self) -> None:
        self._call(20)

    def test_200(self) -> None:
        self._call(200)


class Reused(Collectives):
    """The same in reused ranks, whose tests take the least time."""

    isolation = "group"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repeat", type=int, default=30, metavar="N", help="runs (30)")


def measure(options: argparse.Namespace) -> Report:
    """Run all levels in turn, so that a change of the machine's speed affects all of them."""
    report = Report(
        "A test with some all_reduce (2 ranks, gloo, CPU); medians of the runs' ratios",
        ["isolation", "collectives", "level", "ms a test", "ms more than off", "times off"],
    )
    for cls in (Collectives, Reused):
        for count in COLLECTIVES:
            runs = [_round(cls, count) for _ in range(options.repeat + 1)][1:]
            for level in AUDIT_LEVELS:
                report.rows.append(
                    [
                        cls.isolation or "process",
                        count,
                        level,
                        median(run[level] for run in runs),
                        median(run[level] - run["off"] for run in runs),
                        median(run[level] / run["off"] for run in runs),
                    ]
                )
    return report


def _round(cls: type[Collectives], count: int) -> dict[str, float]:
    return {level: _run(cls, f"test_{count}", level) for level in AUDIT_LEVELS}


def _run(cls: Any, name: str, level: str) -> float:
    """Return the milliseconds of one test."""
    os.environ[settings.AUDIT.env] = level
    result = unittest.TestResult()
    started = time.perf_counter()
    cls(name).run(result)
    seconds = time.perf_counter() - started
    if not result.wasSuccessful() or result.skipped:
        raise RuntimeError(f"a test did not pass: {result.errors or result.failures}")
    return seconds * 1000
