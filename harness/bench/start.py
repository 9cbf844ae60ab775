"""Measure fresh ranks against PyTorch's harness: seconds per test, and memory per rank."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from statistics import mean, median
from typing import Any

from harness.bench.figure import on_loopback
from harness.bench.side import SIDES
from harness.bench.table import Report

NAME = "start"
HELP = "time and memory of a test with one collective, with this harness and with PyTorch's"

MIB = 1 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 4, 8], metavar="N")
    parser.add_argument("--repeat", type=int, default=5, metavar="N", help="runs of each side")


def measure(options: argparse.Namespace) -> Report:
    """Run both sides in turn, so that a change of the machine's speed affects both."""
    report = Report(
        "A test with one all_reduce (gloo, CPU) in fresh processes; medians",
        ["ranks", "torch s", "ours s", "times faster", "torch MiB/rank", "ours MiB/rank",
         "times smaller", "our server MiB"],
    )  # fmt: skip
    sides = {side: Side(side) for side in SIDES}
    try:
        for ranks in options.ranks:
            for side in sides.values():
                side.ask(ranks)  # the first run at a size pays for imports and caches
            runs = [
                {name: s.ask(ranks) for name, s in sides.items()} for _ in range(options.repeat)
            ]
            report.rows.append(_row(ranks, runs))
    finally:
        for side in sides.values():
            side.close()
    report.notes = [
        "MiB are PSS: each page that processes share counts in equal parts for them. The fork",
        "server (last column) is one process for the whole session.",
    ]
    return report


def _row(ranks: int, runs: list[dict[str, Any]]) -> list[Any]:
    torch_s, ours_s = (median(run[side]["seconds"] for run in runs) for side in ("torch", "ours"))
    faster = median(run["torch"]["seconds"] / run["ours"]["seconds"] for run in runs)
    torch_mib, ours_mib = (
        median(mean(run[side]["rank_bytes"]) for run in runs) / MIB for side in ("torch", "ours")
    )
    server = median(run["ours"]["server_bytes"] for run in runs) / MIB
    return [ranks, torch_s, ours_s, faster, torch_mib, ours_mib, torch_mib / ours_mib, server]


class Side:
    """A `harness.bench.side` process and the pipe to it."""

    def __init__(self, name: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "harness.bench.side", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=on_loopback(),
        )

    def ask(self, ranks: int) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(ranks, file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the side {self._process.args!r} ended")
        return json.loads(answer)

    def close(self) -> None:
        self._process.communicate()
