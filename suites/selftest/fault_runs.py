"""Runs the samples of faults in each of the ways there are, and reads what it says of each."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from suites.samples.faults import FAULTS, Fault
from suites.selftest.support import ROOT, Finished

WAYS = ("unittest", "run_tests.py", "pytest")
CLASSES = {
    "test_death_in_set_up": "FaultsInSetUp",
    "test_hang_in_tear_down": "FaultsInTearDown",
    "test_world_size_0": "NoRanks",
}
MODULE = "suites.samples.faults"

# Hangs that have not been noticed by then are not noticed at all; also a rank's exit.
ENVIRON = {"DISTRIBUTED_TESTS_DEFAULT_TIMEOUT": "30", "HARNESS_EXIT_TIMEOUT": "4"}


def class_of(name: str) -> str:
    return CLASSES.get(name, "Faults")


def command(way: str, names: Iterable[str]) -> list[str]:
    """What runs these faults in a way."""
    if way == "pytest":
        file = ROOT / "suites" / "samples" / "faults.py"
        tests = [f"{file}::{class_of(name)}::{name}" for name in names]
        return [sys.executable, "-m", "pytest", "-v", "-rsx", "-p", "no:cacheprovider", *tests]
    tests = [f"{MODULE}.{class_of(name)}.{name}" for name in names]
    if way == "unittest":
        return [sys.executable, "-m", "unittest", "-v", *tests]
    return [sys.executable, str(ROOT / "run_tests.py"), "-v", *tests]


@dataclass
class Told:
    """What a run says of one fault.

    Attributes:
        status: in unittest's words.
        text: what it prints of it.
        after_s: seconds from the fault to the end of the test.
    """

    status: str
    text: str
    after_s: float


_HEADERS = {
    "unittest": r"^={70}\n(?P<kind>ERROR|FAIL|UNEXPECTED SUCCESS): (?P<name>\w+) .*\n-{70}$",
    "run_tests.py": r"^-{80}\n(?P<kind>ERROR|FAIL|XPASS): \S*\.(?P<name>\w+).*\n-{80}$",
    "pytest": r"^_+ (?:SUBTEST: )?\w+\.(?P<name>\w+).* _+$",
}
_WORDS = {
    "ERROR": "error",
    "FAIL": "failed",
    "XPASS": "unexpected success",
    "UNEXPECTED SUCCESS": "unexpected success",
}
_STATUS_LINES = {
    "unittest": r"^{name} .* \.\.\. (?:.*\n)*?.*?(ok|skipped|expected failure|unexpected success)",
    "run_tests.py": (
        r"^(?:passed .*\.{name}  \((expected failure)|(?:(passed|skipped) .*\.{name}\b))"
    ),
    "pytest": r"::{name} (PASSED|SKIPPED|XFAIL|FAILED)",
}
_PLAIN = {"ok": "passed", "PASSED": "passed", "SKIPPED": "skipped", "XFAIL": "expected failure"}


def read(way: str, finished: Finished, names: Iterable[str], notes: Path) -> dict[str, Told]:
    """What the output of a run says of each fault."""
    out = finished.err + finished.out
    sections: dict[str, list[tuple[str, str]]] = {}
    headers = list(re.finditer(_HEADERS[way], out, re.MULTILINE))
    for header, following in zip(headers, [*headers[1:], None], strict=True):
        text = _without_source(out[header.start() : following.start() if following else None])
        kind = header.groupdict().get("kind") or "FAILED"
        sections.setdefault(header["name"], []).append((kind, text))
    return {
        name: Told(
            _status(way, out, name, sections.get(name, [])),
            "\n".join(text for _, text in sections.get(name, [])) or _without_source(out),
            seconds_after(notes / name),
        )
        for name in names
    }


_SOURCE = {
    line.strip()
    for file in (ROOT / "suites/samples").glob("faults*.py")
    for line in file.read_text().split("\n")
}


def _without_source(text: str) -> str:
    """The text without lines of the samples themselves, which hold what must be shown."""
    lines = text.split("\n")
    return "\n".join(line for line in lines if line.lstrip("E> ").strip() not in _SOURCE)


def _status(way: str, out: str, name: str, sections: list[tuple[str, str]]) -> str:
    if sections:
        return _WORDS.get(sections[0][0], "failed")
    line = re.search(_STATUS_LINES[way].replace("{name}", name), out, re.MULTILINE)
    word = next((group for group in line.groups() if group), "") if line else "not run"
    return _PLAIN.get(word, word)


def seconds_after(notes: Path) -> float:
    """From the first note of the fault to that of the test's end."""
    if not notes.exists():
        return float("inf")
    marks = [line.split() for line in notes.read_text().splitlines()]
    times = {what: [float(at) for w, at in marks if w == what] for what, _ in marks}
    if not {"fault", "end"} <= times.keys():
        return float("inf")
    return max(times["end"]) - min(times["fault"])


def complaints(way: str, fault: Fault, told: Told) -> list[str]:
    """What is not as the table says; the time is not among it."""
    found = []
    # For pytest, both are failures, and so is an unexpected success.
    bad = {"failed", "error", "unexpected success"}
    alike = way == "pytest" and fault.status in bad and told.status in bad
    if told.status != fault.status and not alike:
        found.append(f"is {told.status}, not {fault.status}")
    wanted = [*fault.shows, *([f"harness.{fault.error}"] if fault.error else [])]
    found += [f"does not show {text!r}" for text in wanted if text not in told.text]
    found += [f"shows {text!r}" for text in fault.hides if text in told.text]
    if fault.warns and fault.warns not in told.text:
        found.append(f"does not warn of a {fault.warns}")
    return found


def environ(method: str, notes: str | os.PathLike[str]) -> dict[str, str]:
    return {**ENVIRON, "HARNESS_START_METHOD": method, "SAMPLE_OUT": str(notes)}


ALL = tuple(FAULTS)
