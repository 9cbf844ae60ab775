"""Run tests with one collective in a row, for one side of the comparison of isolations.

Run as `python -m harness.bench.isolation_side SIDE TESTS`; prints the milliseconds of one test.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
import unittest
from typing import Any

#: This harness's sides by isolation, and PyTorch's two classes.
SIDES = ("none", "group", "process", "torch continuous", "torch process")
WORLD_SIZE = 2


def _class_of(side: str) -> Any:
    """Import and return the test class of a side: each side imports only its own harness."""
    os.environ["HARNESS_BENCH_WORLD_SIZE"] = str(WORLD_SIZE)
    if side == "torch process":
        return importlib.import_module("harness.bench.side_torch").OneCollective
    if side == "torch continuous":
        return importlib.import_module("harness.bench.continuous_torch").OneCollective
    os.environ["HARNESS_ISOLATION"] = side
    return importlib.import_module("harness.bench.continuous_ours").OneCollective


def main() -> None:
    side, tests = sys.argv[1], int(sys.argv[2])
    cls, result = _class_of(side), unittest.TestResult()
    cls.setUpClass()
    cls("test_all_reduce").run(result)  # the first pays for imports and caches
    started = time.perf_counter()
    for _ in range(tests):
        cls("test_all_reduce").run(result)
    seconds = time.perf_counter() - started
    cls.tearDownClass()
    if not result.wasSuccessful() or result.skipped:
        raise RuntimeError(f"a test did not pass: {result.errors or result.failures}")
    print(f"\nms a test: {seconds / tests * 1000}", flush=True)


if __name__ == "__main__":
    main()
