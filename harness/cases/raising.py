"""Raise a verdict as what unittest understands: an exception, subtest failures, or a skip."""

from __future__ import annotations

import contextlib
import unittest
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn

from harness.cases.decorators import flags
from harness.cases.decorators.sandcastle import pass_instead_of_skip
from harness.cases.hints import hints
from harness.cases.places import place_of_test, raise_at
from harness.diagnosis.report import describe
from harness.diagnosis.sources import is_foreign
from harness.model import pytest_outcomes, settings
from harness.model.errors import (
    BodyNotRunError,
    CommunicationError,
    CommunicationWarning,
    HarnessError,
    ProcessLeakError,
    ProcessLeakWarning,
    RanksDeadlockedError,
    RanksDiedError,
    RanksDisagreeError,
    RanksFailedError,
    RanksRaisedError,
    RanksTimedOutError,
    StateLeakError,
    StateLeakWarning,
    ThreadLeakWarning,
)
from harness.model.outcome import (
    Deadlocked,
    Exited,
    Failed,
    Killed,
    Place,
    Problem,
    Raised,
    TimedOut,
)
from harness.model.rank_report import RankReport
from harness.model.rerun import command_for
from harness.model.verdict import TEST_FAULTS, Verdict, VerdictKind, by_subtest
from harness.ranks.leftovers import Leftover

__unittest = True  # unittest leaves the frames of such modules out of its tracebacks

#: The exception for each kind of verdict, the worst kind last.
ERRORS: dict[VerdictKind, type[HarnessError]] = {
    VerdictKind.FAILED: RanksFailedError,
    VerdictKind.RAISED: RanksRaisedError,
    VerdictKind.DIED: RanksDiedError,
    VerdictKind.TIMED_OUT: RanksTimedOutError,
    VerdictKind.DEADLOCKED: RanksDeadlockedError,
    VerdictKind.DISAGREED: RanksDisagreeError,
    VerdictKind.MISCOMMUNICATED: CommunicationError,
}


def raise_verdict(case: unittest.TestCase, verdict: Verdict, kept: str = "") -> None:
    """Return if the ranks passed; otherwise raise the verdict for unittest.

    Args:
        case: the test, as it runs in the parent.
        verdict: the combined result of its ranks.
        kept: the folder with the ranks' files, if it is kept.

    Raises:
        unittest.SkipTest: if all ranks skipped, except on Sandcastle.
        BaseException: pytest's own, if the ranks called its `xfail()` or `exit()`.
        HarnessError: one of the `Ranks…Error` classes otherwise.
    """
    if verdict.kind is VerdictKind.PASSED:
        warn_of_faults(case, verdict)
        return
    if verdict.is_xfail:
        raise xfail_error(verdict.reason)
    if verdict.kind is VerdictKind.SKIPPED:
        if not flags.IS_SANDCASTLE:
            raise unittest.SkipTest(verdict.reason)
        pass_instead_of_skip(case.id(), verdict.reason)
        return
    # Before the verdict: `pytest.exit()` ends the session, whatever the other ranks did.
    if (leaving := exit_error(verdict)) is not None:
        raise leaving
    # `expectedFailure` covers wrong results (TEST_FAULTS). It must not turn a crash or a body that
    # never ran into an expected failure.
    if verdict.kind not in TEST_FAULTS or _has_not_run(verdict):
        disable_expected_failure(case)
    elif _supports_subtests(case) and not verdict.faults:
        _raise_by_subtest(case, verdict, kept)
        return
    _raise(case, verdict, kept)


def warn_of_faults(case: unittest.TestCase, verdict: Verdict) -> None:
    """Warn of faults in the communication of ranks that passed, if they do not fail the test."""
    if verdict.faults:
        place = place_of_test(case)
        text = f"{case.id()}: {describe(verdict)}"
        warnings.warn_explicit(text, CommunicationWarning, place.file, place.line)


def xfail_error(reason: str) -> BaseException:
    """Return the exception for a test whose ranks all called `pytest.xfail()`.

    A unittest test cannot declare an expected failure while it runs, so there it is a skip.
    """
    if pytest_outcomes.runs_here():
        error: BaseException = pytest_outcomes.outcomes().XFailed(reason)
        return error
    return unittest.SkipTest(f"xfail: {reason}")


def exit_error(verdict: Verdict) -> BaseException | None:
    """Return pytest's Exit if a rank called `pytest.exit()`; None under other runners."""
    if not pytest_outcomes.runs_here():
        return None
    for report in verdict.reports:
        for problem in _problems(report):
            if problem.type_name == pytest_outcomes.EXIT:
                text = f"{problem.message} (rank {report.rank})"
                error: BaseException = pytest_outcomes.outcomes().Exit(text)
                return error
    return None


def _problems(report: RankReport) -> Sequence[Problem]:
    outcome = report.outcome
    return outcome.problems if isinstance(outcome, Failed | Raised) else ()


def _has_not_run(verdict: Verdict) -> bool:
    """Whether the body of the test, or of its setup, returned without having run."""
    name = f"{BodyNotRunError.__module__}.{BodyNotRunError.__qualname__}"
    problems = [problem for report in verdict.reports for problem in _problems(report)]
    return any(problem.type_name == name for problem in problems)


def _raise_by_subtest(case: unittest.TestCase, verdict: Verdict, kept: str) -> None:
    """Report each failed subtest by itself, as unittest does; then raise the rest."""
    parts = by_subtest(verdict)
    rest = parts.pop(None, None)
    for subtest, part in parts.items():
        assert subtest is not None
        # subTest(None) would print "[None]"; without a message unittest prints nothing.
        message = [] if subtest.message is None else [subtest.message]
        with case.subTest(*message, **{name: Shown(text) for name, text in subtest.params}):
            _raise(case, part, kept)
    if rest is not None:
        _raise(case, rest, kept)


@dataclass(frozen=True)
class Leaks:
    """What a test left behind.

    Attributes:
        running: processes, which the harness has ended.
        state: descriptions of changed state in reused ranks, which the harness has replaced.
    """

    running: Sequence[Leftover] = ()
    state: Sequence[str] = ()


def report_leaks(case: unittest.TestCase, left: Leaks) -> None:
    """Report what a test that did not fail has left behind.

    Raises:
        ProcessLeakError, StateLeakError: if HARNESS_LEAKS is "error"; otherwise this warns with
            ProcessLeakWarning or StateLeakWarning.
    """
    for found, error, warning in (
        (left.running, ProcessLeakError, ProcessLeakWarning),
        (left.state, StateLeakError, StateLeakWarning),
    ):
        if not found:
            continue
        text = f"{case.id()}: " + "; ".join(str(leftover) for leftover in found)
        place = place_of_test(case)
        if settings.LEAKS.value() == "error":
            disable_expected_failure(case)
            raise_at(place, error(text))
        # warn_explicit, since the harness's own line would tell the user nothing.
        warnings.warn_explicit(text, warning, place.file, place.line)


def report_stuck_threads(case: unittest.TestCase, names: Sequence[str]) -> None:
    """Warn about thread ranks that still run: Python cannot end a thread in native code."""
    if names:
        text = (
            f"{case.id()}: {', '.join(names)} could not be ended and still runs, which may disturb "
            "other tests; ranks that are processes (MultiProcessTestCase) can always be ended"
        )
        place = place_of_test(case)
        warnings.warn_explicit(text, ThreadLeakWarning, place.file, place.line)


class Shown:
    """Stands for a value in a rank, of which the parent has only the `repr`."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _supports_subtests(case: unittest.TestCase) -> bool:
    """Whether the test runner supports subtests; others get all of them in one message."""
    outcome = getattr(case, "_outcome", None)
    return bool(getattr(outcome, "result_supports_subtests", False))


def _raise(case: unittest.TestCase, verdict: Verdict, kept: str) -> NoReturn:
    text = describe(
        verdict, case._testMethodName, command_for(case), kept, hints=hints(case, verdict)
    )
    raise_at(_place_of_root_cause(verdict) or place_of_test(case), ERRORS[verdict.kind](text))


@contextlib.contextmanager
def errors_despite_expected_failure(case: unittest.TestCase) -> Iterator[None]:
    """Report an error of the harness as an error, even if the test is an expected failure."""
    try:
        yield
    except unittest.SkipTest:
        raise
    except Exception:
        disable_expected_failure(case)
        raise


def disable_expected_failure(case: unittest.TestCase) -> None:
    """Make unittest report the next error even if the test is marked as an expected failure.

    `@expectedFailure` is about a wrong result, not about a rank that crashes or hangs. unittest has
    no public way to say so: this sets a flag of its private `_Outcome` (CPython 3.8 and later).
    """
    outcome = getattr(case, "_outcome", None)
    if outcome is not None:
        outcome.expecting_failure = False


def _place_of_root_cause(verdict: Verdict) -> Place | None:
    """Return the line of the user's code where the first rank to blame failed or is stuck."""
    report = next((r for r in verdict.reports if r.rank in verdict.culprits[:1]), None)
    return None if report is None else place_of_rank(report)


def place_of_rank(report: RankReport) -> Place | None:
    """Return the line of the user's code where a rank failed or is stuck; None if unknown."""
    if isinstance(report.outcome, Failed | Raised):
        return report.outcome.problems[0].where
    if isinstance(report.outcome, Exited):
        return report.outcome.where
    if isinstance(report.outcome, Killed | TimedOut | Deadlocked):
        # The main thread comes first; its innermost frame in the user's code is the place.
        main = (
            report.evidence.stacks
            if isinstance(report.outcome, Killed)
            else report.evidence.threads
        )
        return next(
            (f for thread in main[:1] for f in thread.frames if not is_foreign(f.file)), None
        )
    return None
