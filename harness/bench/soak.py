"""Hundreds of tests in a row, good and bad: what the parent holds at the end and at the start."""

from __future__ import annotations

import argparse
import gc
import itertools
import threading
import unittest
from collections import Counter
from typing import Any

import psutil

from harness.bench.checkout import in_checkout
from harness.bench.table import Report
from harness.ranks import folders

NAME = "soak"
HELP = "many tests in a row, good and bad, and what the parent process holds meanwhile"

_MIX = (
    ("sound", "WithoutSetUpCode", "test_all_reduce"),
    ("faults", "Faults", "test_sigkill"),
    ("faults", "Faults", "test_unittest_as_usual"),
    ("faults", "Faults", "test_assertion_rank_1"),
    ("faults", "Faults", "test_all_differently"),
    ("faults", "Faults", "test_segfault"),
    ("faults", "Faults", "test_subtests"),
    ("faults", "Faults", "test_skip_on_one_rank"),
    ("faults", "Faults", "test_death_in_exit_handler"),
    ("faults", "Faults", "test_1_mb_message"),
    ("faults", "Faults", "test_collateral"),
    ("faults", "Faults", "test_leaves_process_and_dies"),
    ("sound", "LikePyTorch", "test_sum_of_ranks"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tests", type=int, default=500, metavar="N", help="how many (500)")


def measure(options: argparse.Namespace) -> Report:
    """Run the mix, round and round; look at what this process holds ten times on the way."""
    modules = {name: in_checkout(f"suites.samples.{name}") for name in ("sound", "faults")}
    report = Report(
        "What the parent holds while tests run in a row",
        ["tests", "descriptors", "threads", "processes", "files", "PSS, MiB"],
    )
    outcomes: Counter[str] = Counter()
    step = max(1, options.tests // 10)
    for number, (module, cls, method) in enumerate(itertools.cycle(_MIX)):
        if number % step == 0:
            report.rows.append([number, *_held()])
        if number == options.tests:
            break
        outcomes[_run(getattr(modules[module], cls), method)] += 1
    report.notes = [", ".join(f"{count} {status}" for status, count in outcomes.items())]
    return report


def _run(cls: type[unittest.TestCase], method: str) -> str:
    result = unittest.TestResult()
    unittest.TestSuite([cls(method)]).run(result)
    return "failed" if result.failures or result.errors else "passed"


def _held() -> list[Any]:
    gc.collect()
    us = psutil.Process()
    children = [p for p in us.children(recursive=True) if p.status() != psutil.STATUS_ZOMBIE]
    files = [p for p in folders.session_folder().rglob("*") if p.is_file()]
    pss = us.memory_full_info().pss / 2**20
    return [us.num_fds(), threading.active_count(), len(children), len(files), pss]
