"""Measure the project's eleven original tests with both harnesses, as whole processes."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from statistics import median

from harness.bench.checkout import checkout
from harness.bench.table import Report

NAME = "seeds"
HELP = (
    "the eleven tests of PyTorch's test_c10d_spawn_gloo as whole commands: this harness runs "
    "them on the CPU, PyTorch's skips most of them without GPUs"
)

_COLLECTIVES = "broadcast reduce allreduce all_gather all_to_all all_to_all_single gather scatter"
_OURS = [
    *(f"TestDDPSingleProcess.{name}" for name in ("test_cpu", "test_cuda", "test_rnn_cpu")),
    *(f"TestNNFunctionsGloo.test_{name}_cpu_float32_world_size_2" for name in _COLLECTIVES.split()),
]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="runs of each side")


def measure(options: argparse.Namespace) -> Report:
    """Run both commands in turn."""
    report = Report(
        "The eleven tests, as whole commands, which take turns; medians",
        ["command", "ran", "skipped", "s", "times faster"],
    )
    ours = [sys.executable, "run_tests.py", *_OURS]
    torchs = [sys.executable, "-m", "unittest", "harness.bench.torch_seeds"]
    pairs = [(_timed(torchs), _timed(ours)) for _ in range(options.repeat)]
    faster = median(a[0] / b[0] for a, b in pairs)
    (_, torch_counts), (_, our_counts) = pairs[0]
    report.rows = [
        ["PyTorch's harness", *torch_counts, median(a for (a, _), _ in pairs), ""],
        ["python run_tests.py", *our_counts, median(b for _, (b, _) in pairs), faster],
    ]
    return report


def _timed(command: list[str]) -> tuple[float, list[int]]:
    """Return the seconds, and how many tests ran and were skipped."""
    started = time.perf_counter()
    done = subprocess.run(command, cwd=checkout(), capture_output=True, text=True)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")
    if ours := re.search(r"(\d+) passed, 0 failed, (\d+) skipped", done.stdout):
        return seconds, [int(ours[1]), int(ours[2])]
    total = re.search(r"Ran (\d+) tests", done.stderr)
    skipped = re.search(r"skipped=(\d+)", done.stderr)
    assert total is not None
    count = int(skipped[1]) if skipped else 0
    return seconds, [int(total[1]) - count, count]
