"""Measure a test in large worlds: seconds and memory by number of ranks."""

from __future__ import annotations

import argparse
from statistics import median

from harness.bench.start import MIB, Side
from harness.bench.table import Report

NAME = "sizes"
HELP = "time and memory of a test with one collective in worlds of up to 64 ranks"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ranks", type=int, nargs="+", default=[8, 16, 32, 64], metavar="N")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="runs at each size")


def measure(options: argparse.Namespace) -> Report:
    """Run each size several times."""
    report = Report(
        "A test with one all_reduce (gloo, CPU) in fresh processes; medians",
        ["ranks", "s", "MiB in all", "MiB/rank"],
    )
    side = Side("ours")
    try:
        side.ask(2)  # the first run pays for imports and caches
        for ranks in options.ranks:
            runs = [side.ask(ranks) for _ in range(options.repeat)]
            total = median(sum(run["rank_bytes"]) for run in runs) / MIB
            seconds = median(run["seconds"] for run in runs)
            report.rows.append([ranks, seconds, total, total / ranks])
    finally:
        side.close()
    report.notes = ["MiB are PSS of the ranks: pages that processes share count once, divided."]
    return report
