"""Run hundreds of good and bad tests in a row; report wrong verdicts and what they leave behind.

With `--sessions`, several sessions run at a time with one temp folder, as on a busy CI machine. The
last of them has a PID namespace of its own, as a container has, where the system allows it.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import unittest
import uuid
import warnings
from collections.abc import Mapping
from typing import Any

import psutil

from harness.bench.checkout import checkout, in_checkout
from harness.bench.table import Report
from harness.ranks import folders

NAME = "soak"
HELP = "hundreds of good and bad tests in a row: wrong verdicts, and what they leave behind"

# Sample, class, method, and unittest's expected word for the result.
_MIX = (
    ("sound", "WithoutSetUpCode", "test_all_reduce", "passed"),
    ("faults", "Faults", "test_sigkill", "error"),
    ("reused", "Sound", "test_one", "passed"),
    ("faults", "Faults", "test_unittest_as_usual", "passed"),
    ("faults", "Faults", "test_assertion_rank_1", "failed"),
    ("reused", "Sound", "test_fails", "failed"),
    ("faults", "Faults", "test_all_differently", "error"),
    ("reused", "Sound", "test_skips", "skipped"),
    ("faults", "Faults", "test_segfault", "error"),
    ("faults", "Faults", "test_subtests", "failed"),
    ("reused", "Sibling", "test_one", "passed"),
    ("faults", "Faults", "test_skip_on_one_rank", "error"),
    ("faults", "Faults", "test_death_in_exit_handler", "error"),
    ("reused", "Hit", "test_killed", "passed"),
    ("faults", "Faults", "test_1_mb_message", "failed"),
    ("faults", "Faults", "test_collateral", "error"),
    ("faults", "Faults", "test_leaves_process_and_dies", "error"),
    ("sound", "LikePyTorch", "test_sum_of_ranks", "passed"),
)

# The variable that marks all processes of one run.
_MARK = "HARNESS_BENCH_SOAK"
_IN_A_NAMESPACE = ("unshare", "--pid", "--fork", "--mount-proc")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tests", type=int, default=500, metavar="N", help="number of tests (500)")
    parser.add_argument(
        "--sessions",
        type=int,
        default=1,
        metavar="N",
        help="split them among N sessions (1)",
    )


def measure(options: argparse.Namespace) -> Report:
    """Run the mix of tests repeatedly, in this process or in several sessions."""
    if options.sessions > 1:
        return _sessions(options.sessions, options.tests // options.sessions)
    return _one(options.tests)


def _one(tests: int) -> Report:
    """Run the mix in this process, and measure the process's resources ten times on the way."""
    modules = {name: in_checkout(f"suites.samples.{name}") for name, *_ in _MIX}
    report = Report(
        "Resources of the parent process while tests run in a row",
        ["tests", "descriptors", "threads", "processes", "files", "PSS, MiB"],
    )
    wrong: list[str] = []
    step = max(1, tests // 10)
    for number, (module, cls, method, expected) in enumerate(itertools.cycle(_MIX)):
        if number % step == 0:
            report.rows.append([number, *_resources()])
        if number >= tests:
            break
        status, text = _run(getattr(modules[module], cls), method)
        if status != expected:
            wrong.append(f"{cls}.{method} {status}, not {expected}:\n{text}")
    report.notes = [f"{tests} tests, {len(wrong)} wrong verdicts", *wrong]
    return report


def _run(cls: type[unittest.TestCase], method: str) -> tuple[str, str]:
    """Return unittest's word for the test's result, and its text."""
    result = unittest.TestResult()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        unittest.TestSuite([cls(method)]).run(result)
    kinds = {"failed": result.failures, "error": result.errors, "skipped": result.skipped}
    for status, found in kinds.items():
        if found:
            return status, found[0][1]
    return "passed", ""


def _resources() -> list[Any]:
    gc.collect()
    us = psutil.Process()
    children = [p for p in us.children(recursive=True) if p.status() != psutil.STATUS_ZOMBIE]
    files = [p for p in folders.session_folder().rglob("*") if p.is_file()]
    pss = us.memory_full_info().pss / 2**20
    return [us.num_fds(), threading.active_count(), len(children), len(files), pss]


def _sessions(count: int, tests: int) -> Report:
    report = Report(
        f"{count} sessions at the same time with one temp folder, {tests} tests each",
        ["session", "PID namespace", "result"],
    )
    temp, mark = tempfile.mkdtemp(prefix="soak-"), uuid.uuid4().hex
    environ = {**os.environ, "TMPDIR": temp, _MARK: mark}
    command = [sys.executable, "-m", "harness.bench", NAME, "--json", "--tests", str(tests)]
    try:
        running = [(where, _start(where, command, environ)) for where in _places(count)]
        for number, (where, session) in enumerate(running, 1):
            output, errors = session.communicate()
            notes = json.loads(output)["notes"] if session.returncode == 0 else [errors]
            report.rows.append([number, "its own" if where else "shared", notes[0]])
            report.notes += notes[1:]
        left = [*_left_processes(mark), *os.listdir(temp)]
        report.notes.append(f"left behind: {', '.join(left) or 'nothing'}")
    finally:
        shutil.rmtree(temp, ignore_errors=True)
    return report


def _places(count: int) -> list[tuple[str, ...]]:
    """Return the prefix of each session's command: empty, or one that adds a PID namespace."""
    allowed = (
        shutil.which("unshare") is not None
        and not subprocess.run(
            [*_IN_A_NAMESPACE, "true"], capture_output=True, check=False
        ).returncode
    )
    return [
        (),
    ] * (count - 1) + [_IN_A_NAMESPACE if allowed else ()]


def _start(
    where: tuple[str, ...], command: list[str], environ: Mapping[str, str]
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*where, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environ,
        cwd=checkout(),
    )


def _left_processes(mark: str) -> list[str]:
    left = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(_MARK) == mark:
                left.append(f"process {process.pid}: {' '.join(process.cmdline())}")
        except psutil.Error:
            continue
    return left
