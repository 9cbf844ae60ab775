"""Measure the cost of isolation: milliseconds per test, and replacing a world after a fault."""

from __future__ import annotations

import argparse
import time
import unittest
from statistics import median
from typing import Any

from harness.bench.checkout import in_checkout
from harness.bench.figure import figure
from harness.bench.isolation_side import SIDES, WORLD_SIZE
from harness.bench.table import Report

NAME = "isolation"
HELP = "the time of a test for each isolation and for PyTorch's classes; the cost of a fault"

# Few, because PyTorch's harness takes seconds for each.
_TESTS_OF_TORCH_PROCESS = 4
# Test of the sample to a description of its fault.
_FAULTS = {10: "a rank crashes", 20: "a rank hangs (timeout: 2 s)", 30: "all ranks skip"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tests", type=int, default=100, metavar="N", help="tests in a run (100)")
    parser.add_argument("--repeat", type=int, default=5, metavar="N", help="runs (5)")
    parser.add_argument("--recovery", action="store_true", help="measure only the cost of faults")


def measure(options: argparse.Namespace) -> Report:
    """Run all sides in turn, so that a change of the machine's speed affects all of them."""
    if options.recovery:
        return _recovery()
    report = Report(
        f"{options.tests} tests with one all_reduce ({WORLD_SIZE} ranks, gloo, CPU); medians",
        ["side", "ms a test", "times torch continuous", "times faster than torch process"],
    )
    runs = [{side: _run(side, options.tests) for side in SIDES} for _ in range(options.repeat)]
    for side in SIDES:
        report.rows.append(
            [
                side,
                median(run[side] for run in runs),
                median(run[side] / run["torch continuous"] for run in runs),
                median(run["torch process"] / run[side] for run in runs),
            ]
        )
    return report


def _run(side: str, tests: int) -> float:
    """Return the milliseconds of one test."""
    count = min(tests, _TESTS_OF_TORCH_PROCESS) if side == "torch process" else tests
    return figure("ms a test", "harness.bench.isolation_side", side, str(count))


def _recovery() -> Report:
    """Measure failing tests, including the new world for the test after them."""
    cls = in_checkout("suites.samples.reused").Hundred
    result, times = unittest.TestResult(), {}
    for name in unittest.TestLoader().getTestCaseNames(cls):
        started = time.perf_counter()
        unittest.TestSuite([cls(name)]).run(result)
        times[int(name.rpartition("_")[2])] = (time.perf_counter() - started) * 1000
    usual = median(times.values())
    report = Report(
        "A hundred tests in shared worlds (isolation none), of which three go wrong",
        ["test", "what happens", "ms more than usual", "the test after it, ms more"],
    )
    for number, what in _FAULTS.items():
        more: list[Any] = [times[number] - usual, times[number + 1] - usual]
        report.rows.append([number, what, *more])
    bad = len(result.errors) + len(result.failures)
    skipped = len(result.skipped)
    report.notes = [f"{len(times) - bad - skipped} passed, {bad} failed, {skipped} skipped"]
    return report
