"""Measure property tests over ranks: examples per second, and the time to find a planted bug."""

from __future__ import annotations

import argparse
from statistics import median

from harness.bench.figure import figure
from harness.bench.properties_side import SIDES
from harness.bench.table import Report

NAME = "properties"
HELP = "examples per second of property tests, by world size and kind of rank"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--examples", type=int, default=500, metavar="N", help="examples (500)")
    parser.add_argument("--repeat", type=int, default=5, metavar="N", help="runs of each (5)")
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[2, 4], metavar="N", help="world sizes (2 4)"
    )


def measure(options: argparse.Namespace) -> Report:
    """Run all sides in turn, so that a change of the machine's speed affects all of them."""
    report = Report(
        f"Property tests of {options.examples} examples with one all_reduce each (gloo, CPU)",
        ["ranks", *(f"{side}, examples/s" for side in SIDES)],
        notes=[
            "Medians. fresh group: ranks are processes; each example initializes a process group. "
            "kept group: MultiProcContinuousTest. threads: MultiThreadedTestCase. no ranks: "
            "the same body in one process, where all_reduce is a multiplication.",
        ],
    )
    for size in options.sizes:
        runs = [
            {side: _run(side, size, options.examples) for side in SIDES}
            for _ in range(options.repeat)
        ]
        report.rows.append([size, *(median(run[side] for run in runs) for side in SIDES)])
    return report


def _run(side: str, size: int, examples: int) -> float:
    """Return the examples per second."""
    module = "harness.bench.properties_side"
    return figure("examples a second", module, side, str(size), str(examples))
