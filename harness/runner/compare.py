"""The option --compare: run test files with PyTorch's harness and with this one, and compare.

PyTorch's side is `python FILE -v`, exactly as PyTorch's users run it, and its output is parsed
(`unittest_output`). This side is the runner with `--results`. Both run in processes of their own.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harness.model.clock import now
from harness.model.outcome import Killed
from harness.runner.options import EXIT_FAILED, EXIT_NOTHING_RAN, EXIT_PASSED, Options
from harness.runner.reports.text import shortened
from harness.runner.selection.checkout import (
    dotted,
    environ_with_defaults,
    files_of_checkout,
    folder_of_tests,
)
from harness.runner.selection.files import TestFile
from harness.runner.unittest_output import Reading, Verdict, read_verdicts

_MAX_REASON = 160
_NOT_RUN = ("not run", "")


@dataclass
class Side:
    """The verdicts of one harness on a file.

    Attributes:
        verdicts: test to its status and the first line of the reason.
        seconds: time of the whole command, including start and imports.
        problem: why the verdicts may be incomplete or wrong; empty if they are not.
    """

    verdicts: dict[str, Verdict] = field(default_factory=dict)
    seconds: float = 0.0
    problem: str = ""

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

    @property
    def tests(self) -> list[str]:
        """All tests that at least one side has a verdict for."""
        return list(dict.fromkeys([*self.torchs.verdicts, *self.ours.verdicts]))

    def differences(self) -> list[tuple[str, Verdict, Verdict]]:
        """Return the tests whose status differs: name, PyTorch's verdict, ours."""
        pairs = [
            (n, self.torchs.verdicts.get(n, _NOT_RUN), self.ours.verdicts.get(n, _NOT_RUN))
            for n in self.tests
        ]
        return [(name, a, b) for name, a, b in pairs if a[0] != b[0]]

    @property
    def agrees(self) -> bool:
        """Whether both sides are complete, and no verdict differs."""
        return not (self.differences() or self.torchs.problem or self.ours.problem)


def compare(options: Options) -> int:
    """Run every file with both harnesses, one after the other, and print the differences.

    Returns:
        the exit code: 0 if no verdict differs and none is missing.
    """
    assert options.checkout is not None
    found = [_compare(file, options) for file in files_of_checkout(options.checkout, options.names)]
    print(json.dumps([_data(c) for c in found], indent=2) if options.json else _text(found))
    if not all(c.agrees for c in found):
        return EXIT_FAILED
    return EXIT_PASSED if any(c.ours.verdicts for c in found) else EXIT_NOTHING_RAN


def _compare(file: TestFile, options: Options) -> Comparison:
    torchs = _torchs(file, options)
    ours = _ours(file, options)
    # Otherwise one skipped class would look like a difference for each of its tests.
    torchs.verdicts = _class_skips_by_test(torchs.verdicts, ours.verdicts)
    return Comparison(str(file.path), torchs, ours)


# This harness's side


def _ours(file: TestFile, options: Options) -> Side:
    """Run a file with this harness; the tests' output goes to stderr."""
    more = [] if options.jobs is None else ["-j", str(options.jobs)]
    if options.timeout_s is not None:
        more += ["--timeout", str(options.timeout_s)]
    if options.run_timeout_s is not None:
        more += ["--run-timeout", str(options.run_timeout_s)]
    if options.seed is not None:
        more += ["--seed", str(options.seed)]
    if options.isolation is not None:
        more += ["--isolation", options.isolation]
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder, "results")
        results.touch()
        started = now()
        done = subprocess.run(
            _command(file, options, "--results", str(results), *more),
            stdout=sys.stderr,
            check=False,
        )
        seconds = now() - started
        lines = [json.loads(line) for line in results.read_text().splitlines()]
    verdicts = {
        line["test"]: (line["status"] or "unfinished", _short(line["why"])) for line in lines
    }
    is_usual = done.returncode in (EXIT_PASSED, EXIT_FAILED, EXIT_NOTHING_RAN)
    problem = "" if is_usual else f"the runner {_how(done.returncode)}: see its output"
    return Side(verdicts, seconds, problem)


def _command(file: TestFile, options: Options, *more: str) -> list[str]:
    arguments = ["--torch-checkout", str(options.checkout), "--no-history", *more, str(file.path)]
    arguments += dotted(options.names)
    arguments += [word for pattern in options.patterns for word in ("-k", pattern)]
    return [sys.executable, "-m", "harness", *arguments]


# PyTorch's side


def _torchs(file: TestFile, options: Options) -> Side:
    """Run a file as PyTorch's users do, `python FILE -v`; its output goes to stderr afterwards.

    The output goes through files: a rank that outlives the tests would keep a pipe open, and
    reading it would not end.
    """
    assert options.checkout is not None
    selected = _selected(file, options)
    if selected == []:
        return Side(problem="was not run, as no test is selected or they cannot be listed")
    command = [sys.executable, str(file.path), "-v", *(selected or ())]
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as files:
        folder = Path(name)
        out, err = (files.enter_context(open(folder / n, "w+b")) for n in ("out", "err"))
        started = now()
        ended, is_good = _run(
            command,
            options.run_timeout_s,
            cwd=folder_of_tests(options.checkout),
            env=environ_with_defaults(folder / "temp"),
            stdout=out,
            stderr=err,
        )
        seconds = now() - started
        texts = [(folder / n).read_text(errors="replace") for n in ("out", "err")]
    sys.stderr.write("".join(texts))
    return _side(read_verdicts(texts[1], ended), file.path.stem, seconds, is_good)


def _side(reading: Reading, module: str, seconds: float, is_good: bool) -> Side:
    problem = reading.problem
    if not reading.verdicts and problem and is_good:
        problem += ": the file has no run_tests() that runs them, or unittest does not run them"
    # PyTorch's side runs the file as a script, so its tests are in __main__.
    verdicts = {
        name.replace("__main__", module, 1): (status, _short(why))
        for name, (status, why) in reading.verdicts.items()
    }
    return Side(verdicts, seconds, problem)


def _selected(file: TestFile, options: Options) -> list[str] | None:
    """Return the selected tests by their unittest names; None for the whole file.

    This runner selects for both sides: it accepts more kinds of names and patterns than unittest.
    """
    if not dotted(options.names) and not options.patterns:
        return None
    done = subprocess.run(
        _command(file, options, "--list"), stdout=subprocess.PIPE, text=True, check=False
    )
    ids = (line.partition(" #")[0] for line in done.stdout.splitlines())
    return list(dict.fromkeys(".".join(test_id.split(".")[-2:]) for test_id in ids))


def _run(command: Sequence[str], limit_s: float | None, **kwargs: Any) -> tuple[str, bool]:
    """Run a command, then kill what it left running; return how it ended, and if it succeeded."""
    # By default SIGTERM ends this process at once, and the command would go on. SystemExit runs the
    # `finally` below.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    # In its own session, so that killing the process group reaches its ranks, and nothing else.
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, **kwargs)
    try:
        code = process.wait(limit_s)
    except subprocess.TimeoutExpired:
        return f"was ended after {limit_s:g} s (--run-timeout)", False
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return _how(code), code == 0


def _how(code: int) -> str:
    if code < 0:
        return f"was killed by {Killed(-code).signal_name}"
    return f"exited with code {code}"


def _class_skips_by_test(
    torchs: dict[str, Verdict], ours: dict[str, Verdict]
) -> dict[str, Verdict]:
    """Replace a skipped class or module with its tests, as this harness reports them.

    unittest reports one skip under the name of the fixture (`setUpClass (m.C)`).
    """
    spread: dict[str, Verdict] = {}
    for name, verdict in torchs.items():
        fixture, _, owner = name.partition(" (")
        tests = [
            test
            for test in ours
            if fixture in ("setUpClass", "setUpModule")
            and verdict[0] == "skipped"
            and test.startswith(f"{owner.removesuffix(')')}.")
            and test not in torchs
        ]
        spread.update(dict.fromkeys(tests or [name], verdict))
    return spread


# What is printed


def _text(found: Sequence[Comparison]) -> str:
    return "\n\n".join(_text_of(comparison) for comparison in found)


def _text_of(comparison: Comparison) -> str:
    torchs, ours = comparison.torchs, comparison.ours
    lines = [comparison.file]
    for name, theirs, here in comparison.differences():
        lines += [
            f"  {name}",
            f"    PyTorch's: {_shown(theirs)}",
            f"    this one:  {_shown(here)}",
        ]
    for whose, side in (("PyTorch's:", torchs), ("this one: ", ours)):
        if side.problem:
            lines.append(f"  {whose} {side.problem}: its verdicts are incomplete or unreliable")
    lines += [
        f"  {len(comparison.differences())} of {len(comparison.tests)} verdicts differ",
        f"  PyTorch's: {torchs.counts}, {torchs.seconds:.1f} s",
        f"  this one:  {ours.counts}, {ours.seconds:.1f} s, "
        f"{torchs.seconds / ours.seconds:.1f} times faster",
    ]
    return "\n".join(lines)


def _shown(verdict: Verdict) -> str:
    status, why = verdict
    return f"{status} ({why})" if why else status


def _short(text: str) -> str:
    return shortened(text, _MAX_REASON)


def _data(comparison: Comparison) -> dict[str, Any]:
    names = ("test", "torchs", "ours")
    differences = [dict(zip(names, row, strict=True)) for row in comparison.differences()]
    return {**asdict(comparison), "differences": differences}
