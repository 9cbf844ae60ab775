"""Run every fault of `suites/samples/faults*.py` with this harness and with PyTorch's own."""

from __future__ import annotations

import argparse
import json
import math
import os
import select
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from harness.bench.checkout import checkout, in_checkout
from harness.bench.table import Report
from harness.runner.reports.text import shortened

NAME = "faults"
HELP = "the result of each deliberately faulty test, with this harness and with PyTorch's"

_OURS, _TORCH = "suites.samples.faults", "suites.samples.faults_torch"
# Faults that need hooks which PyTorch's harness does not have.
_ONLY_OURS = {
    "test_death_in_set_up": "FaultsInSetUp",
    "test_hang_in_tear_down": "FaultsInTearDown",
}
_CLASSES = {**_ONLY_OURS, "test_world_size_0": "NoRanks"}
_MARK = "HARNESS_BENCH_MARK"
# How long after its time limit a test counts as never ending.
_PATIENCE_S = 60.0
# How many characters of an exception a cell of the table shows.
_MAX_MESSAGE = 90


@dataclass(frozen=True)
class Found:
    """The result of a fault with one harness.

    Attributes:
        status: unittest's word for the test, or "no end".
        message: the first line of the exception.
        seconds: from the fault to the end of the test; None if unknown.
        left: how many processes still ran when the test had ended.
        text: the text of its failure, or the reason for its skip.
    """

    status: str
    message: str
    seconds: float | None
    left: int
    text: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="FAULT", help="tests (default: all)")
    parser.add_argument(
        "--timeout", type=float, default=10.0, metavar="S", help="time limit of a test (10)"
    )
    parser.add_argument(
        "--repeat",
        type=int,
        default=3,
        metavar="N",
        help="runs here; PyTorch's runs once (3)",
    )


def measure(options: argparse.Namespace) -> Report:
    """Run every fault with this harness, several times, then once with PyTorch's."""
    table = in_checkout("suites.samples.faults").FAULTS
    faults = {name: table[name] for name in options.names or table}
    report = Report(
        "Each fault as unittest runs it, with seconds from the fault to the end of the test "
        f"(median of {options.repeat} runs with this harness, one run with PyTorch's). The time "
        f"limit is {options.timeout:g} s unless the test sets its own, which PyTorch's ignores",
        ["fault", "expected", "here", "s", "message", "PyTorch's", "s", "message", "left"],
    )
    ours: dict[str, list[Found]] = {name: [] for name in faults}
    for _ in range(options.repeat):
        for name, found in _run_all(_OURS, list(faults), options.timeout):
            ours[name].append(found)
    both = [name for name in faults if name not in _ONLY_OURS]
    torchs = dict(_run_all(_TORCH, both, options.timeout))
    for name, fault in faults.items():
        report.rows.append(_row(fault, ours[name], torchs.get(name)))
    report.notes = [_tally(report)]
    if "test_desync" in faults:
        text = _report_in(ours["test_desync"][0].text)
        report.notes += [
            "",
            "The report of all_reduce against broadcast:",
            "",
            text,
        ]
    return report


def _tally(report: Report) -> str:
    here, late, there = (sum("**" in str(row[i]) for row in report.rows) for i in (2, 3, 5))
    return (
        f"Wrong results, in bold: {here} here, {there} with PyTorch's harness. "
        f"Later than the samples allow: {late} here."
    )


def _row(fault: Any, ours: list[Found], torchs: Found | None) -> list[Any]:
    left = [fault.title, fault.status, *_cells(fault.status, ours, fault.within_s)]
    right = ["", "", "", ""] if torchs is None else [*_cells(fault.status, [torchs]), torchs.left]
    return [*left, *right]


def _cells(expected: str, found: list[Found], within_s: float = math.inf) -> list[Any]:
    """Return the cells: status and seconds, in bold if wrong, and the exception's first line."""
    statuses = list(dict.fromkeys(one.status for one in found))
    marked = ", ".join(s if s == expected else f"**{s}**" for s in statuses)
    times = [one.seconds for one in found if one.seconds is not None]
    seconds: Any = median(times) if times else ""
    if times and seconds > within_s:
        seconds = f"**{seconds:.3g}**"
    return [marked, seconds, shortened(found[0].message.replace("|", "\\|"), _MAX_MESSAGE)]


def _report_in(text: str) -> str:
    begin = text.index("harness.Ranks")
    return f"```\n{text[begin : text.index('rerun:', begin)].rstrip()}\n```"


def _run_all(module: str, names: list[str], timeout_s: float) -> Iterator[tuple[str, Found]]:
    """Run the tests of a module; start a new process after each test that does not end."""
    todo = list(names)
    while todo:
        with tempfile.TemporaryDirectory() as notes:
            side = _Side(module, timeout_s, Path(notes))
            while todo and side.alive:
                print(f"{module} {todo[0]}", file=sys.stderr)
                yield todo[0], side.run(todo.pop(0))
            side.end()


class _Side:
    """A process that runs the tests of one module."""

    def __init__(self, module: str, timeout_s: float, notes: Path) -> None:
        self._notes = notes
        self._limit_s = timeout_s + _PATIENCE_S
        self._mark = uuid.uuid4().hex
        self.alive = True
        env = {
            **os.environ,
            _MARK: self._mark,
            "SAMPLE_OUT": str(notes),
            "DISTRIBUTED_TESTS_DEFAULT_TIMEOUT": f"{timeout_s:g}",
            "HARNESS_EXIT_TIMEOUT": "1",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "harness.bench.faults_side", module],
            env=env,
            cwd=checkout(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def run(self, name: str) -> Found:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(f"{_CLASSES.get(name, 'Faults')}.{name}", file=self._process.stdin, flush=True)
        # Each request has one line as its answer, so nothing is left in Python's buffer, which
        # select() does not see.
        ready, _, _ = select.select([self._process.stdout], [], [], self._limit_s)
        line = self._process.stdout.readline() if ready else ""
        if not line:
            self.alive = False
            return Found("no end", "", None, self._end_others(), "")
        answer = json.loads(line)
        text = answer["text"]
        return Found(
            answer["status"],
            _message(text),
            _seconds(self._notes / name),
            self._end_others(),
            text,
        )

    def end(self) -> None:
        """End the process and all that it has started."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._end_others()

    def _end_others(self) -> int:
        """Kill the processes that the test left running; return how many there were."""
        left = [p for p in _marked(self._mark) if p.pid != self._process.pid]
        _, left = psutil.wait_procs(left, timeout=0.2)
        left = [p for p in left if not _is_zombie(p)]
        for process in left:
            process.kill()
        return len(left)


def _message(text: str) -> str:
    """Return the exception's line in unittest's output, or the reason for a skip."""
    lines = [line for line in text.splitlines() if line and not line.startswith((" ", "Traceback"))]
    return lines[0] if lines else ""


def _seconds(notes: Path) -> float | None:
    marks = [line.split() for line in notes.read_text().splitlines()] if notes.exists() else []
    faults = [float(at) for what, at in marks if what == "fault"]
    ends = [float(at) for what, at in marks if what == "end"]
    return max(ends) - min(faults) if faults and ends else None


# Servers of either harness that run for the whole session, so they are not leftovers.
_SERVERS = ("multiprocessing.forkserver", "multiprocessing.resource_tracker")


def _marked(mark: str) -> list[psutil.Process]:
    """Return the processes with this mark in their environment, except servers."""
    found = []
    for process in psutil.process_iter():
        try:
            marked = process.environ().get(_MARK) == mark and not _is_zombie(process)
            if marked and not any(name in " ".join(process.cmdline()) for name in _SERVERS):
                found.append(process)
        except psutil.Error:
            continue
    return found


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return True
