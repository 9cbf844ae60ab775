"""The same test files under PyTorch's harness and under this one: where the verdicts differ."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harness.model.clock import now
from harness.runner.checkout import dotted, files_of_checkout
from harness.runner.files import TestFile
from harness.runner.options import EXIT_FAILED, EXIT_NOTHING_RAN, EXIT_PASSED, Options
from harness.runner.reports.text import shortened

_MAX_REASON = 160


@dataclass
class Side:
    """What one harness made of a file.

    Attributes:
        verdicts: by test, its status and the first line of why.
        seconds: for the whole command, start and imports included.
    """

    verdicts: dict[str, tuple[str, str]] = field(default_factory=dict)
    seconds: float = 0.0

    def count(self, status: str) -> int:
        return sum(found == status for found, _ in self.verdicts.values())

    @property
    def counts(self) -> str:
        return ", ".join(f"{self.count(word)} {word}" for word in ("passed", "failed", "skipped"))


@dataclass
class Comparison:
    """One file under both harnesses."""

    file: str
    torchs: Side
    ours: Side

    def differences(self) -> list[tuple[str, tuple[str, str], tuple[str, str]]]:
        """Tests whose status is not the same: name, PyTorch's verdict, ours."""
        absent = ("not run", "")
        names = dict.fromkeys([*self.torchs.verdicts, *self.ours.verdicts])
        pairs = [
            (n, self.torchs.verdicts.get(n, absent), self.ours.verdicts.get(n, absent))
            for n in names
        ]
        return [(name, a, b) for name, a, b in pairs if a[0] != b[0]]


def compare(options: Options) -> int:
    """Run every file under both, one after the other, and print the differences.

    Returns:
        the exit code: 0 if no verdict differs.
    """
    assert options.checkout is not None
    found = [_compare(file, options) for file in files_of_checkout(options.checkout, options.names)]
    print(json.dumps([_data(c) for c in found], indent=2) if options.json else _text(found))
    if any(c.differences() for c in found):
        return EXIT_FAILED
    return EXIT_PASSED if any(c.ours.verdicts for c in found) else EXIT_NOTHING_RAN


def _compare(file: TestFile, options: Options) -> Comparison:
    # PyTorch's runs tests one after the other, in the process that was started.
    torchs = _run(file, options, "--with-torchs", "-j", "0")
    jobs = [] if options.jobs is None else ["-j", str(options.jobs)]
    return Comparison(str(file.path), torchs, _run(file, options, *jobs))


def _run(file: TestFile, options: Options, *more: str) -> Side:
    """The file in a process of its own; what the tests print goes to stderr."""
    checkout = ["--torch-checkout", str(options.checkout)]
    arguments = [*checkout, "--no-history", *more, str(file.path)]
    arguments += dotted(options.names)
    arguments += [word for pattern in options.patterns for word in ("-k", pattern)]
    if options.timeout_s is not None:
        arguments += ["--timeout", str(options.timeout_s)]
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder, "results")
        results.touch()
        started = now()
        subprocess.run(
            [sys.executable, "-m", "harness", "--results", str(results), *arguments],
            stdout=sys.stderr,
            check=False,
        )
        seconds = now() - started
        lines = [json.loads(line) for line in results.read_text().splitlines()]
    verdicts = {
        line["test"]: (line["status"], shortened(line["why"], _MAX_REASON)) for line in lines
    }
    return Side(verdicts, seconds)


def _text(found: list[Comparison]) -> str:
    return "\n\n".join(_text_of(comparison) for comparison in found)


def _text_of(comparison: Comparison) -> str:
    torchs, ours = comparison.torchs, comparison.ours
    lines = [comparison.file]
    for name, theirs, here in comparison.differences():
        lines += [
            f"  {name}",
            f"    PyTorch's: {_verdict(theirs)}",
            f"    this one:  {_verdict(here)}",
        ]
    differing = len(comparison.differences())
    lines += [
        f"  {differing} of {len(ours.verdicts)} verdicts differ",
        f"  PyTorch's: {torchs.counts}, {torchs.seconds:.1f} s",
        f"  this one:  {ours.counts}, {ours.seconds:.1f} s, "
        f"{torchs.seconds / ours.seconds:.1f} times faster",
    ]
    return "\n".join(lines)


def _verdict(verdict: tuple[str, str]) -> str:
    status, why = verdict
    return f"{status} ({why})" if why else status


def _data(comparison: Comparison) -> dict[str, Any]:
    names = ("test", "torchs", "ours")
    differences = [dict(zip(names, row, strict=True)) for row in comparison.differences()]
    return {**asdict(comparison), "differences": differences}
