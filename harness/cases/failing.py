"""From a verdict to what unittest understands: an exception, sub-test failures, a skip."""

from __future__ import annotations

import ast
import linecache
import unittest
from typing import Any, NoReturn

from harness.diagnosis.report import describe
from harness.model.errors import (
    HarnessError,
    RanksDiedError,
    RanksDisagreeError,
    RanksFailedError,
    RanksRaisedError,
    RanksTimedOutError,
)
from harness.model.outcome import Exited, Failed, Place, Raised
from harness.model.verdict import TEST_FAULTS, Verdict, VerdictKind

__unittest = True  # unittest leaves the frames of such modules out of its tracebacks

_ERRORS: dict[VerdictKind, type[HarnessError]] = {
    VerdictKind.FAILED: RanksFailedError,
    VerdictKind.RAISED: RanksRaisedError,
    VerdictKind.DIED: RanksDiedError,
    VerdictKind.TIMED_OUT: RanksTimedOutError,
    VerdictKind.DISAGREED: RanksDisagreeError,
}


def raise_verdict(case: unittest.TestCase, verdict: Verdict) -> None:
    """Return if the ranks passed; else raise what the verdict is for unittest.

    Raises:
        unittest.SkipTest: if all ranks skipped.
        HarnessError: one of the `Ranks…Error` classes otherwise.
    """
    if verdict.kind is VerdictKind.PASSED:
        return
    if verdict.kind is VerdictKind.SKIPPED:
        raise unittest.SkipTest(verdict.reason)
    if verdict.kind not in TEST_FAULTS:
        _expect_no_failure(case)
    place = _place_of_root(verdict) or _place_of_test(case)
    _raise_at(place, _ERRORS[verdict.kind](describe(verdict)))


def _expect_no_failure(case: unittest.TestCase) -> None:
    """Have unittest report the coming error though the test is marked as an expected failure.

    The mark is about what the test finds out, not about a rank that crashes or hangs.
    """
    outcome = getattr(case, "_outcome", None)
    if outcome is not None:
        outcome.expecting_failure = False


def _place_of_root(verdict: Verdict) -> Place | None:
    """The line in the user's code where the first rank went wrong."""
    for report in verdict.reports:
        if report.rank in verdict.culprits[:1]:
            if isinstance(report.outcome, Failed | Raised):
                return report.outcome.problems[0].where
            if isinstance(report.outcome, Exited):
                return report.outcome.where
    return None


def _place_of_test(case: unittest.TestCase) -> Place:
    function = getattr(type(case), case._testMethodName)
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    code = function.__code__
    first = code.co_firstlineno
    return Place(code.co_filename, first, code.co_name, first)


def _raise_at(place: Place, error: HarnessError) -> NoReturn:
    """Raise the error as if from the given line, where a reader (or an editor) wants to go.

    unittest and pytest leave out the harness's own frames; what remains of the traceback is the
    frame of the function made here, which claims to be the line in which the rank went wrong.
    """
    module = ast.parse("def raise_there():\n    raise error from None")
    text = linecache.getline(place.file, place.line).rstrip()
    for node in ast.walk(module):
        if isinstance(node, ast.stmt | ast.expr):
            node.lineno = node.end_lineno = place.line
            # The whole line: Python underlines what is less.
            node.col_offset, node.end_col_offset = len(text) - len(text.lstrip()), len(text)
    module.body[0].lineno = place.first_line
    namespace: dict[str, Any] = {"error": error}
    exec(compile(module, place.file, "exec"), namespace)
    raise_there = namespace["raise_there"]
    raise_there.__code__ = raise_there.__code__.replace(co_name=place.function)
    raise_there()
    raise AssertionError("unreachable")
