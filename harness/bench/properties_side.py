"""Run a property test, for one side of the comparison of property tests.

Run as `python -m harness.bench.properties_side SIDE RANKS EXAMPLES`; prints examples per second.
"""

from __future__ import annotations

import os
import sys
import time
import unittest
from typing import Any

import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.cases.classes import (
    MultiProcContinuousTest,
    MultiProcessTestCase,
    MultiThreadedTestCase,
)
from harness.cases.testcase import TestCase

SIDES = ("fresh group", "kept group", "threads", "no ranks")

_SIZE, _EXAMPLES = "HARNESS_BENCH_WORLD_SIZE", "HARNESS_BENCH_EXAMPLES"
# Ranks import this module too, with the same environment.
WORLD_SIZE = int(os.environ.get(_SIZE, "2"))
_NUMBERS = st.integers(-1000, 1000)
_MANY = settings(max_examples=int(os.environ.get(_EXAMPLES, "100")))


def _check(case: Any, number: int) -> None:
    x = torch.full((4,), number)
    dist.all_reduce(x)
    case.assertEqual(x, torch.full((4,), WORLD_SIZE * number))


class FreshGroup(MultiProcessTestCase):
    """A test whose every example initializes its own process group."""

    world_size = WORLD_SIZE

    @_MANY
    @given(number=_NUMBERS)
    def test_it(self, number: int) -> None:
        self.init_process_group()
        _check(self, number)


class KeptGroup(MultiProcContinuousTest):
    """A test that finds its process group up."""

    world_size = WORLD_SIZE

    @classmethod
    def backend_str(cls) -> str:
        return "gloo"

    @_MANY
    @given(number=_NUMBERS)
    def test_it(self, number: int) -> None:
        _check(self, number)


class Threads(MultiThreadedTestCase):
    """A test whose ranks are threads."""

    world_size = WORLD_SIZE

    @_MANY
    @given(number=_NUMBERS)
    def test_it(self, number: int) -> None:
        _check(self, number)


class NoRanks(TestCase):
    """Measure Hypothesis and the comparison alone, without ranks."""

    @_MANY
    @given(number=_NUMBERS)
    def test_it(self, number: int) -> None:
        x = torch.full((4,), number) * WORLD_SIZE
        self.assertEqual(x, torch.full((4,), WORLD_SIZE * number))


_CLASSES = dict(zip(SIDES, (FreshGroup, KeptGroup, Threads, NoRanks), strict=True))


def main() -> None:
    side, size, examples = sys.argv[1:]
    if os.environ.get(_SIZE) != size:  # for this module as it is imported, here and in ranks
        environ = {**os.environ, _SIZE: size, _EXAMPLES: examples}
        os.execve(sys.executable, [sys.executable, "-m", __spec__.name, *sys.argv[1:]], environ)
    # As ranks know it.
    cls = getattr(__import__(__spec__.name, fromlist=["x"]), _CLASSES[side].__name__)
    result = unittest.TestResult()
    cls("test_it").run(result)  # the first pays for imports, caches and the world
    started = time.perf_counter()
    cls("test_it").run(result)
    seconds = time.perf_counter() - started
    if not result.wasSuccessful() or result.skipped:
        raise RuntimeError(f"the test did not pass: {result.errors or result.failures}")
    print(f"\nexamples a second: {int(examples) / seconds}", flush=True)


if __name__ == "__main__":
    main()
