"""Read the verdicts of tests from the output of `python FILE -v`, if unittest ran them.

Ranks write to the same stream as unittest, so anything may stand between a test's name and its
status. Failures are read from the list at the end, which unittest prints when all ranks have ended.
Other verdicts are read from the tests' lines. Both must add up to the summary; if they do not, the
result is a problem, never a guess.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

#: Status (passed, failed, skipped) and reason.
Verdict = tuple[str, str]

#: The status of a test that was started, but whose outcome cannot be read.
UNREADABLE = "unreadable"

_FIXTURES = ("setUpClass", "tearDownClass", "setUpModule", "tearDownModule")
_IN_PARENTHESES = re.compile(r" \(([^\s()]+)\)")
# What can follow a test's name: the message and parameters of a subtest, a line of a docstring.
_REST_OF_START = re.compile(r"((?: \[[^\n]*\])?(?: \([^\n]*\))?)(?:\n[^\n]*?)? \.\.\. ")
_HEADING = re.compile(
    r"^={70}\n(?:ERROR|FAIL): ([^\n]*)\n(?:[^\n]*\n)?-{70}\n(.*?)(?=^={70}\n|^-{70}\nRan |\Z)",
    re.MULTILINE | re.DOTALL,
)
_STATUS = re.compile(
    r"^(ok|FAIL|ERROR|expected failure|unexpected success|skipped (['\"]).*\2)$", re.MULTILINE
)
_SUMMARY = re.compile(
    r"^Ran (\d+) tests? in [\d.]+s\n\n(?:OK|FAILED|NO TESTS RAN)(?: \((.*)\))?$", re.MULTILINE
)


# Statuses, and their names in the summary.
_COUNTED = {
    "skipped": "skipped",
    "expected failure": "expected failures",
    "unexpected success": "unexpected successes",
}


@dataclass
class _Started:
    """A test, subtest or fixture with its own line.

    Attributes:
        test_id: unittest's id, with `#2` and so on for further tests with the same id.
        is_subtest: whether it is a subtest of the test with this id.
        is_fixture: whether it is the setup or teardown of a class or module.
        text: the output from its name to the next one.
    """

    test_id: str
    is_subtest: bool
    is_fixture: bool
    text: str
    statuses: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.statuses = [match[1] for match in _STATUS.finditer(self.text)]


@dataclass
class Reading:
    """The verdicts that could be read.

    Attributes:
        verdicts: test to its verdict.
        problem: why they may be incomplete or wrong; empty if they add up.
    """

    verdicts: dict[str, Verdict] = field(default_factory=dict)
    problem: str = ""


def read_verdicts(text: str, ended: str) -> Reading:
    """Return the verdicts of a unittest run with `-v`.

    Args:
        text: its stderr.
        ended: how its process ended, in words; the reason for a test that was running then.
    """
    text = text.replace("\r\n", "\n")
    # A test may run unittest itself; the last summary is the one of this run.
    summary = next(reversed(list(_SUMMARY.finditer(text))), None)
    started = _without_repeats(_started(text[: summary.start()] if summary else text))
    if summary is None:
        return _read_unfinished(started, ended)
    counts = _counts(summary[2] or "")
    failures = [(match[1], match[2]) for match in _HEADING.finditer(text)]
    return _read_finished(started, failures, int(summary[1]), counts)


def _started(text: str) -> Iterator[_Started]:
    found: list[tuple[int, int, str, bool, bool]] = []
    for match in _IN_PARENTHESES.finditer(text):
        title = _title(text, match)
        rest = _REST_OF_START.match(text, match.end())
        # Parentheses in the output of ranks, which are not the name of a test.
        if title is None or rest is None:
            continue
        test_id, begin, is_fixture = title
        found.append((begin, rest.end(), test_id, bool(rest[1]), is_fixture))
    # The text of a test reaches to the next name: its status may come after any amount of output.
    ends = [*(begin for begin, *_ in found[1:]), len(text)][: len(found)]
    for (_, begin, test_id, is_subtest, is_fixture), end in zip(found, ends, strict=True):
        yield _Started(test_id, is_subtest, is_fixture, text[begin:end])


def _title(text: str, match: re.Match[str]) -> tuple[str, int, bool] | None:
    """Return the id before and inside these parentheses, its start, and if it is a fixture's."""
    inside = match[1]
    # A bound, so that the search stays linear in output of many megabytes.
    before = text[max(0, match.start() - 500) : match.start()]
    for name in _FIXTURES:
        if before.endswith(name):
            return f"{name} ({inside})", match.start() - len(name), True
    # The parentheses contain the class and the method.
    name = inside.rpartition(".")[2]
    if "." not in inside or not before.endswith(name):
        return None
    return inside, match.start() - len(name), False


def _without_repeats(started: Iterator[_Started]) -> list[_Started]:
    """Number the tests that have the same id.

    unittest prints the name of a test again after its subtests; that is not another test.
    """
    kept: list[_Started] = []
    seen = Counter[str]()
    test: _Started | None = None
    for each in started:
        name = each.test_id
        if each.is_subtest and test is not None and test.test_id.partition(" #")[0] == name:
            each.test_id = test.test_id
        elif not each.is_subtest and not each.is_fixture:
            has_subtests = bool(kept) and kept[-1].is_subtest
            if has_subtests and test is not None and test.test_id.partition(" #")[0] == name:
                test.statuses += each.statuses
                continue
            seen[name] += 1
            each.test_id += f" #{seen[name]}" if seen[name] > 1 else ""
            test = each
        kept.append(each)
    return kept


def _read_unfinished(started: list[_Started], ended: str) -> Reading:
    """Return the verdicts of a run that did not print its summary."""
    verdicts: dict[str, Verdict] = {}
    for each in started:
        status = each.statuses[0] if each.statuses else ""
        verdict = _verdict(status) if status else (UNREADABLE, "")
        if each.is_subtest:
            if verdict[0] == "failed":
                verdicts[each.test_id] = verdict
        elif verdicts.get(each.test_id, ("",))[0] != "failed":
            verdicts[each.test_id] = verdict
    running = next((each.test_id for each in reversed(started) if not each.is_subtest), None)
    if running is not None and verdicts[running][0] == UNREADABLE:
        verdicts[running] = ("failed", f"{ended} while this test ran")
    return Reading(verdicts, f"{ended}, without unittest's summary")


def _read_finished(
    started: list[_Started],
    failures: list[tuple[str, str]],
    test_count: int,
    counts: Mapping[str, int],
) -> Reading:
    """Return the verdicts of a run with a summary, and a problem if they do not add up to it."""
    verdicts: dict[str, Verdict] = {}
    found = Counter[str]()
    for each in started:
        statuses = [status for status in each.statuses if status not in ("FAIL", "ERROR")]
        verdict = _verdict(statuses[-1]) if statuses else (UNREADABLE, "")
        found["skipped" if verdict[0] == "skipped" else statuses[-1] if statuses else ""] += 1
        if not each.is_subtest and (statuses or not each.is_fixture):
            verdicts[each.test_id] = verdict
    for title, text in failures:
        _fail(verdicts, title, text)
    if all(found[status] == counts.get(noun, 0) for status, noun in _COUNTED.items()):
        # Everything that did not pass is accounted for, so tests with unreadable lines passed.
        for test_id, (status, _) in verdicts.items():
            if status == UNREADABLE:
                verdicts[test_id] = ("passed", "")
    else:
        return Reading(verdicts, f"its summary ({_shown(counts)}) does not match its other output")
    tests = [each for each in started if not (each.is_subtest or each.is_fixture)]
    # Python 3.12.1 does not count tests that are skipped before they start.
    uncounted = counts.get("skipped", 0) if sys.version_info[:2] == (3, 12) else 0
    if not 0 <= len(tests) - test_count <= uncounted:
        return Reading(verdicts, f"it ran {test_count} tests, but printed lines of {len(tests)}")
    listed = counts.get("failures", 0) + counts.get("errors", 0)
    if len(failures) != listed:
        return Reading(verdicts, f"it counts {listed} failures, but printed {len(failures)}")
    return Reading(verdicts)


def _fail(verdicts: dict[str, Verdict], title: str, text: str) -> None:
    """Add a failure from the list at the end."""
    match = _IN_PARENTHESES.search(title)
    found = _title(title, match) if match else None
    test_id = found[0] if found else title
    # The list does not distinguish tests with the same id. Take the first one without a verdict.
    copies = [name for name in verdicts if name.partition(" #")[0] == test_id]
    unread = (name for name in copies if verdicts[name][0] == UNREADABLE)
    if next(iter(copies), None) is None:
        verdicts[test_id] = ("failed", _why(text))
        return
    name = next(unread, None)
    if name is not None or verdicts[copies[0]][0] != "failed":
        verdicts[name or copies[0]] = ("failed", _why(text))


def _why(text: str) -> str:
    """Return the first line of the exception."""
    own = (n for n in text.splitlines() if n.strip() and not n.startswith((" ", "Traceback")))
    return next(own, "")


def _verdict(status: str) -> Verdict:
    if status.startswith("skipped"):
        return "skipped", status[len("skipped '") : -1]
    return {
        "ok": ("passed", ""),
        "expected failure": ("passed", "expected failure"),
        "unexpected success": ("failed", "passed, but is marked as an expected failure"),
    }.get(status, ("failed", ""))


def _counts(text: str) -> dict[str, int]:
    """Return the numbers in a summary such as `failures=1, skipped=2`."""
    return {name: int(number) for name, number in re.findall(r"([a-z][a-z ]*)=(\d+)", text)}


def _shown(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name}={number}" for name, number in counts.items()) or "OK"
