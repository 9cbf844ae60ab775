"""Turn failing examples into exceptions that Hypothesis shrinks, and its findings into a report.

A failure takes two trips. `raise_example` raises a short exception to the engine, with the verdict
attached. When the engine has shrunk it, the exception comes back out, in a group if there are
several, and `raise_failures` takes the verdict from it and raises the report.
"""

from __future__ import annotations

import contextlib
import functools
import re
import sys
import unittest
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from hypothesis.errors import Flaky, HypothesisException

from harness.cases.hints import hints
from harness.cases.places import place_of_test, raise_at
from harness.cases.properties.example_budget import ExampleBudget
from harness.cases.raising import ERRORS, disable_expected_failure, place_of_rank
from harness.cases.ranks_of_test import ranks_of
from harness.diagnosis.report import describe, headline
from harness.model.errors import FlakyExampleError, HarnessError
from harness.model.outcome import Failed, Place, Raised
from harness.model.rank_report import RankReport
from harness.model.rerun import command_for
from harness.model.verdict import TEST_FAULTS, Verdict, VerdictKind

__unittest = True  # unittest leaves the frames of such modules out of its tracebacks

# The attribute of an exception with the verdict that it was raised for.
_VERDICT = "_harness_verdict"


def raise_example(case: unittest.TestCase, verdict: Verdict) -> NoReturn:
    """Raise an exception that Hypothesis sees as the failure of an example.

    Hypothesis distinguishes failures by type and line. Which rank fails first may differ each time,
    so type and line are always those of the first culprit that is not merely collateral. Otherwise
    Hypothesis would report the test as flaky.
    """
    report = _first_culprit(verdict)
    type_name = ""
    if report is not None and isinstance(report.outcome, Failed | Raised):
        type_name = report.outcome.problems[0].type_name
    error = _failure_type(verdict.kind, type_name)(headline(verdict))
    setattr(error, _VERDICT, verdict)
    raise_at(_place(case, report), error)


def _place(case: unittest.TestCase, report: RankReport | None) -> Place:
    return (report and place_of_rank(report)) or place_of_test(case)


def _first_culprit(verdict: Verdict) -> RankReport | None:
    # A rank that failed because of a peer fails at a different line each time.
    causes = [rank for rank in verdict.culprits if rank not in verdict.collateral]
    return next((r for r in verdict.reports if r.rank in causes), None)


@functools.cache
def _failure_type(kind: VerdictKind, type_name: str) -> type[HarnessError]:
    """Return a subclass of the harness's error for each type of exception in the ranks.

    Without it, two bugs on one line with different exceptions would be one bug to Hypothesis. The
    type also inherits from the rank's exception if possible, so that
    `@example(…).xfail(raises=…)` recognizes it. Cached, since Hypothesis compares by identity.
    """
    base, like = ERRORS[kind], _exception_named(type_name)
    if like is not None and not issubclass(base, like):
        with contextlib.suppress(TypeError):  # the base classes' memory layouts conflict
            return type(base.__name__, (base, like), {})
    return type(base.__name__, (base,), {})


def _exception_named(name: str) -> type[Exception] | None:
    """Return the named exception type, if this process has it and gives it no special meaning."""
    module, _, short = name.rpartition(".")
    found = getattr(sys.modules.get(module or "builtins"), short, None)
    if not isinstance(found, type) or not issubclass(found, Exception):
        return None
    special = (AssertionError, HarnessError, HypothesisException, unittest.SkipTest)
    return None if issubclass(found, special) else found


@dataclass(frozen=True)
class _FoundFailure:
    """A failure that Hypothesis has found and shrunk.

    Attributes:
        verdict: the ranks' verdict.
        reported: what Hypothesis reports about it: the example, notes, how to reproduce it.
    """

    verdict: Verdict
    reported: Sequence[str]


def raise_failures(
    case: unittest.TestCase, error: Exception, reported: Sequence[str], budget: ExampleBudget
) -> NoReturn:
    """Raise the report on the failures that Hypothesis has found.

    Args:
        case: the test.
        error: the exception from Hypothesis.
        reported: what Hypothesis printed instead of adding it to the exception.
        budget: the test's time limits.
    """
    found = _failures_in(error, reported)
    if not found:
        # An error of Hypothesis's own, such as a failed health check: the test is wrong, not what
        # it tests.
        disable_expected_failure(case)
        raise error
    kinds = {f.verdict.kind for f in found}
    flaky = isinstance(error, Flaky)
    if flaky or not kinds <= TEST_FAULTS:
        disable_expected_failure(case)
    texts = [_report_text(case, f, budget) for f in found]
    # The exception's type follows the worst failure, as for ranks of one test.
    worst = max(found, key=lambda f: list(ERRORS).index(f.verdict.kind))
    text = texts[0]
    if len(texts) > 1:
        parts = [f"{i}. {text}" for i, text in enumerate(texts, 1)]
        text = "\n\n".join([f"Hypothesis found {len(texts)} different failures", *parts])
    kind = ERRORS[worst.verdict.kind]
    if flaky:
        kind, text = FlakyExampleError, f"{_reason(error)}\n\nThe first time: {text}"
    raise_at(_place(case, _first_culprit(found[0].verdict)), kind(text))


def _reason(error: BaseException) -> str:
    return str(error.args[0]) if error.args else type(error).__name__


def _failures_in(error: BaseException, reported: Sequence[str]) -> list[_FoundFailure]:
    """Return the failures that an exception of Hypothesis contains, alone or in groups."""
    notes = [*reported, *getattr(error, "__notes__", ())]
    verdict = getattr(error, _VERDICT, None)
    if verdict is not None:
        return [_FoundFailure(verdict, notes)]
    parts: Sequence[Any] = getattr(error, "exceptions", ())
    return [found for part in parts for found in _failures_in(part, notes)]


# Hypothesis prints the test instance as an argument, which tells the reader nothing.
_SELF = re.compile(r"\n    self=<[^\n]*>,(?=\n)")


def _report_text(case: unittest.TestCase, found: _FoundFailure, budget: ExampleBudget) -> str:
    lines = [_SELF.sub("", text).strip("\n") for text in found.reported]
    lines += _time_notes(found.verdict, budget)
    kept = ranks_of(case).kept_folder(found.verdict)
    return describe(
        found.verdict,
        case._testMethodName,
        command_for(case),
        kept,
        "\n".join(lines),
        hints(case, found.verdict),
    )


def _time_notes(verdict: Verdict, budget: ExampleBudget) -> list[str]:
    lines = []
    if verdict.kind is VerdictKind.TIMED_OUT and budget.is_shortened:
        lines.append(
            f"(After one example had hung, the others had a limit of {budget.example_s:g} s each.)"
        )
    if budget.is_used_up:
        lines.append(
            f"(Hypothesis stopped shrinking after {budget.shrink_s:g} s, so there may be a smaller "
            "example; HARNESS_SHRINK_TIMEOUT sets this limit.)"
        )
    return lines
