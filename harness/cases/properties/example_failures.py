"""From a failing example to what Hypothesis shrinks, and from what it finds to the report."""

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

from harness.cases.missing_names import hints
from harness.cases.places import place_of_test, raise_at
from harness.cases.properties.example_budget import ExampleBudget
from harness.cases.raising import ERRORS, expect_no_failure, place_of_rank
from harness.cases.ranks_of_test import ranks_of
from harness.diagnosis.report import describe, headline
from harness.model.errors import FlakyExampleError, HarnessError
from harness.model.outcome import Failed, Place, Raised
from harness.model.rank_report import RankReport
from harness.model.rerun import command_for
from harness.model.verdict import TEST_FAULTS, Verdict, VerdictKind

__unittest = True  # unittest leaves the frames of such modules out of its tracebacks

_VERDICT = "_harness_verdict"


def raise_example(case: unittest.TestCase, verdict: Verdict) -> NoReturn:
    """Raise what Hypothesis takes for the failure of an example.

    It tells failures apart by type and line. Which of several ranks was the first may differ each
    time, so the type and the line are those of the lowest rank to blame.
    """
    report = _to_blame(verdict)
    type_name = ""
    if report is not None and isinstance(report.outcome, Failed | Raised):
        type_name = report.outcome.problems[0].type_name
    error = _failure_type(verdict.kind, type_name)(headline(verdict))
    setattr(error, _VERDICT, verdict)
    raise_at(_place(case, report), error)


def _place(case: unittest.TestCase, report: RankReport | None) -> Place:
    return (report and place_of_rank(report)) or place_of_test(case)


def _to_blame(verdict: Verdict) -> RankReport | None:
    causes = [rank for rank in verdict.culprits if rank not in verdict.collateral]
    return next((r for r in verdict.reports if r.rank in causes), None)


@functools.cache
def _failure_type(kind: VerdictKind, type_name: str) -> type[HarnessError]:
    """A type for each type of exception in ranks, though they are told of by one.

    It is of that type too where it can be: `@example(…).xfail(raises=…)` names it.
    """
    base, like = ERRORS[kind], _exception_named(type_name)
    if like is not None and not issubclass(base, like):
        with contextlib.suppress(TypeError):  # of another layout in memory
            return type(base.__name__, (base, like), {})
    return type(base.__name__, (base,), {})


def _exception_named(name: str) -> type[Exception] | None:
    """The type that a problem names, if this process has it and no one treats it otherwise."""
    module, _, short = name.rpartition(".")
    found = getattr(sys.modules.get(module or "builtins"), short, None)
    if not isinstance(found, type) or not issubclass(found, Exception):
        return None
    special = (AssertionError, HarnessError, HypothesisException, unittest.SkipTest)
    return None if issubclass(found, special) else found


@dataclass(frozen=True)
class _Found:
    """A failure that Hypothesis has found and made as small as it could.

    Attributes:
        verdict: what the ranks added up to.
        told: what Hypothesis says of it: the example, notes, how to reproduce it.
    """

    verdict: Verdict
    told: Sequence[str]


def raise_found(
    case: unittest.TestCase, error: Exception, told: Sequence[str], budget: ExampleBudget
) -> NoReturn:
    """Raise the report on what Hypothesis has found.

    Args:
        case: the test.
        error: what Hypothesis raises.
        told: what it has printed instead of adding it to the error.
        budget: the time that the examples had.
    """
    found = _found_in(error, told)
    if not found:
        expect_no_failure(case)  # it is about the test, not about what it tests
        raise error
    kinds = {f.verdict.kind for f in found}
    flaky = isinstance(error, Flaky)
    if flaky or not kinds <= TEST_FAULTS:
        expect_no_failure(case)
    texts = [_text(case, f, budget) for f in found]
    worst = max(found, key=lambda f: list(ERRORS).index(f.verdict.kind))
    text = texts[0]
    if len(texts) > 1:
        parts = [f"{i}. {text}" for i, text in enumerate(texts, 1)]
        text = "\n\n".join([f"Hypothesis found {len(texts)} different failures", *parts])
    kind = ERRORS[worst.verdict.kind]
    if flaky:
        kind, text = FlakyExampleError, f"{_reason(error)}\n\nThe first time: {text}"
    raise_at(_place(case, _to_blame(found[0].verdict)), kind(text))


def _reason(error: BaseException) -> str:
    return str(error.args[0]) if error.args else type(error).__name__


def _found_in(error: BaseException, told: Sequence[str]) -> list[_Found]:
    """The failures of examples that an exception of Hypothesis's is about."""
    notes = [*told, *getattr(error, "__notes__", ())]
    verdict = getattr(error, _VERDICT, None)
    if verdict is not None:
        return [_Found(verdict, notes)]
    parts: Sequence[Any] = getattr(error, "exceptions", ())
    return [found for part in parts for found in _found_in(part, notes)]


# Nobody has to be told which object the test was.
_SELF = re.compile(r"\n    self=<[^\n]*>,(?=\n)")


def _text(case: unittest.TestCase, found: _Found, budget: ExampleBudget) -> str:
    lines = [_SELF.sub("", text).strip("\n") for text in found.told]
    lines += _about_time(found.verdict, budget)
    kept = ranks_of(case).kept_folder(found.verdict)
    return describe(
        found.verdict,
        case._testMethodName,
        command_for(case),
        kept,
        "\n".join(lines),
        hints(case, found.verdict),
    )


def _about_time(verdict: Verdict, budget: ExampleBudget) -> list[str]:
    lines = []
    if verdict.kind is VerdictKind.TIMED_OUT and budget.is_shortened:
        lines.append(
            f"(Once an example had hung, the others were given {budget.example_s:g} s each.)"
        )
    if budget.is_used_up:
        lines.append(
            f"(It was made smaller for {budget.shrink_s:g} s; there may be a smaller one: "
            "HARNESS_SHRINK_TIMEOUT.)"
        )
    return lines
