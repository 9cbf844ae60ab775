"""Measure the runner: the suites with 1, 2 and more workers, and 5,000 trivial tests."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from harness.bench.checkout import checkout
from harness.bench.table import Report

NAME = "runner"
HELP = "the suites with 1, 2 and more workers; the runner's overhead in 5,000 trivial tests"

_TRIVIAL = """\
import unittest
class TestMany(unittest.TestCase):
    pass
for i in range({count}):
    setattr(TestMany, f"test_{{i:05}}", lambda self: self.assertEqual(1, 1))
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="runs of each command")
    parser.add_argument(
        "--tests", type=int, default=5000, metavar="N", help="number of trivial tests"
    )
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2, 4], metavar="N")


def measure(options: argparse.Namespace) -> Report:
    """Run all commands in turn, several times."""
    report = Report(
        "Whole commands, which take turns; medians",
        ["tests", "command", "s", "/ first command", "us a test more"],
    )
    suites = [["run_tests.py", "--no-history", "-j", str(jobs)] for jobs in options.jobs]
    report.rows += _rows("suites/", suites, checkout(), options.repeat, 0)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "test_many.py").write_text(_TRIVIAL.format(count=options.tests))
        harness = ["-m", "harness", "--no-history", "-j"]
        commands = [["-m", "unittest", "-q", "test_many"]]
        commands += [[*harness, str(jobs), "test_many.py"] for jobs in (0, *options.jobs)]
        report.rows += _rows(
            f"{options.tests} trivial", commands, Path(folder), options.repeat, options.tests
        )
    report.notes = ["The seconds include the start of each command."]
    return report


def _rows(
    what: str, commands: list[list[str]], folder: Path, repeat: int, tests: int
) -> list[list[object]]:
    runs = [[_seconds(command, folder) for command in commands] for _ in range(repeat)]
    rows: list[list[object]] = []
    for i, command in enumerate(commands):
        ratio = median(run[i] / run[0] for run in runs)
        more_us = median(run[i] - run[0] for run in runs) / tests * 1e6 if tests else ""
        shown = " ".join(["python", *command])
        rows.append([what, shown, median(run[i] for run in runs), ratio, more_us])
    return rows


def _seconds(command: list[str], folder: Path) -> float:
    started = time.perf_counter()
    done = subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")
    return time.perf_counter() - started
