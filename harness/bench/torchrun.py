"""Measure a rank test on torchrun's processes, and rank 0's part of the time."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from harness.bench import simulated_ranks
from harness.bench.table import Report

NAME = "torchrun"
HELP = "a test with one collective under torchrun and without it; the CPU time of rank 0"

_SUITE = """\
import torch
import torch.distributed as dist
from harness import MultiProcessTestCase


class TestMany(MultiProcessTestCase):
    world_size = {ranks}

    def one_collective(self):
        self.init_process_group()
        dist.all_reduce(torch.ones(1))


for i in range({tests}):
    setattr(TestMany, f"test_{{i:03}}", TestMany.one_collective)
"""
# The first tests pay for imports and other one-time costs.
_UNCOUNTED = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ranks", type=int, nargs="*", default=[2, 4, 8], metavar="N")
    parser.add_argument("--tests", type=int, default=20, metavar="N", help="tests in a suite")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="runs of each kind")
    parser.add_argument(
        "--links",
        type=int,
        nargs="*",
        default=[8, 64, 256, 1000],
        metavar="N",
        help="numbers of simulated ranks, to measure rank 0's CPU time",
    )


def measure(options: argparse.Namespace) -> Report:
    """Run both kinds in turn, so that a change of the machine's speed affects both."""
    report = Report(
        "A test with one all_reduce (gloo, CPU) in fresh processes; medians",
        ["ranks", "own ranks s", "torchrun s", "torchrun / own", "rank 0 CPU ms", "us a rank"],
    )
    for ranks in options.ranks:
        report.rows.append(_row(ranks, options))
    for links in options.links:
        tests = min(options.tests, max(3, 2000 // links))
        cpu_s = simulated_ranks.cpu_of_rank_0(links, tests)
        report.rows.append([links, "", "", "", cpu_s * 1e3, cpu_s / links * 1e6])
    report.notes = [
        "Rows with seconds: whole tests, on processes of this machine.",
        "Rows with CPU time: simulated ranks send all messages of a passing test at once, so the",
        "time is what rank 0's process itself needs.",
    ]
    return report


def _row(ranks: int, options: argparse.Namespace) -> list[Any]:
    with tempfile.TemporaryDirectory() as folder:
        suite = Path(folder, "test_many.py")
        suite.write_text(_SUITE.format(ranks=ranks, tests=options.tests + _UNCOUNTED))
        own_command = [sys.executable, "-m", "harness", "-j", "0"]
        torchrun_command = [
            sys.executable, "-m", "torch.distributed.run", "--standalone",
            "--nproc-per-node", str(ranks), "-m", "harness",
        ]  # fmt: skip
        runs = [
            (_seconds(own_command, folder), _seconds(torchrun_command, folder))
            for _ in range(options.repeat)
        ]
    own_s, torchrun_s = (median(run[kind] for run in runs) for kind in (0, 1))
    return [ranks, own_s, torchrun_s, median(both / own for own, both in runs), "", ""]


def _seconds(command: list[str], folder: str) -> float:
    """Return the median of the tests' times in one run."""
    records = Path(folder, "records.json")
    done = subprocess.run(
        [*command, "test_many.py", "--no-history", "--results", str(records)],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")
    seconds = [json.loads(line)["seconds"] for line in records.read_text().splitlines()]
    return median(seconds[_UNCOUNTED:])
