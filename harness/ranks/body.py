"""Run the body of a test in a rank exactly as unittest would, and return its outcome.

unittest itself runs the method, so the harness has no second implementation of sub-tests, cleanups
and skips that could differ between Python versions. Three things are replaced: set-up and tear-down
(the parent has run those of the class), the expectedFailure mark (the parent judges all ranks
together), and the result object.
"""

from __future__ import annotations

import types
import unittest
from collections.abc import Callable
from functools import partial
from typing import Any

from harness.model.outcome import (
    Passed,
    Problem,
    ReportedOutcome,
    Skipped,
    SubTest,
    outcome_of_problems,
)
from harness.model.phase import Phase
from harness.model.pytest_outcomes import skip_of
from harness.model.returned import checked
from harness.ranks.problems import ExcInfo, problem_of, subtest_of


def run_body(
    test: unittest.TestCase,
    set_up: Callable[[], None],
    tear_down: Callable[[], None],
    enter: Callable[[Phase], object],
    on_problem: Callable[[Problem], None] | None = None,
) -> ReportedOutcome:
    """Run the test's method once, as unittest runs a test; return its outcome.

    Args:
        test: an instance for the method to run.
        set_up, tear_down: what runs in this rank before and after the method, in place of `setUp`
            and `tearDown`, which run in the parent.
        enter: called with the phase when the body begins, and when its tear-down begins.
        on_problem: called with the problem that ends the body, before the cleanups run.

    Returns:
        the outcome.

    Raises:
        SystemExit: if the body called `sys.exit()` and had no problem before; cleanups have run.
        KeyboardInterrupt: if the body was interrupted.
    """

    test.setUp = _Fixture(set_up, after=partial(enter, Phase.BODY))  # type: ignore[method-assign]
    test.tearDown = _Fixture(tear_down, before=partial(enter, Phase.TEAR_DOWN))  # type: ignore[method-assign]
    _judge_expected_failures_in_the_parent(test)
    result = _Collector(on_problem)
    # TestCase's own run(), not an override: an override of the user has run in the parent.
    unittest.TestCase.run(test, result)
    if result.exit_request is not None and not result.problems:
        raise result.exit_request
    return result.outcome()


class _Fixture:
    """A rank's set-up or tear-down, and the steps just before or after it."""

    def __init__(
        self,
        run: Callable[[], object],
        before: Callable[[], object] | None = None,
        after: Callable[[], object] | None = None,
    ) -> None:
        self._run = run
        self._steps = [step for step in (before, checked(run), after) if step is not None]

    def __call__(self) -> None:
        for step in self._steps:
            step()

    def __reduce__(self) -> Any:
        # RPC pickles the test instance for another rank. There it must not report phases, so only
        # the plain function is sent.
        return _identity, (self._run,)


def _identity(value: Any) -> Any:
    return value


def _judge_expected_failures_in_the_parent(test: unittest.TestCase) -> None:
    """Hide the expectedFailure mark from unittest, which would turn a failure here into a pass.

    The parent judges it by the outcomes of all ranks.
    """
    test.__unittest_expecting_failure__ = False  # type: ignore[attr-defined]
    method = getattr(test, test._testMethodName)
    if getattr(method, "__unittest_expecting_failure__", False):

        def unmarked(self: unittest.TestCase) -> Any:
            return method()

        unmarked.__name__ = method.__name__  # a bound method is pickled by name
        unmarked.__qualname__ = method.__qualname__  # messages name it
        setattr(test, test._testMethodName, types.MethodType(unmarked, test))


class _Collector(unittest.TestResult):
    """Collects the results of one test from unittest."""

    def __init__(self, on_problem: Callable[[Problem], None] | None = None) -> None:
        super().__init__()
        self._on_problem = on_problem
        self.problems: list[Problem] = []
        self.skip: Skipped | None = None
        self.exit_request: SystemExit | None = None

    def __reduce__(self) -> Any:
        # RPC pickles the test instance, which refers to this result while it runs.
        return _Collector, ()

    def outcome(self) -> ReportedOutcome:
        if self.problems:
            return outcome_of_problems(tuple(self.problems))
        return Passed() if self.skip is None else self.skip

    def addError(self, test: unittest.TestCase, err: ExcInfo) -> None:
        self._add(err, None)

    def addFailure(self, test: unittest.TestCase, err: ExcInfo) -> None:
        self._add(err, None)

    def addSubTest(
        self, test: unittest.TestCase, subtest: unittest.TestCase, err: ExcInfo | None
    ) -> None:
        if err is not None:
            self._add(err, subtest_of(subtest))

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        # A skip inside a sub-test skips that sub-test only; the test itself has run.
        if not hasattr(test, "test_case"):
            self.skip = Skipped(reason)

    def _add(self, err: ExcInfo, subtest: SubTest | None) -> None:
        # unittest reports SystemExit as an error. Here the rank exits with that code, as a script
        # would; the verdict then depends on the exit code.
        if isinstance(err[1], SystemExit):
            self.exit_request = self.exit_request or err[1]
            return
        skip = skip_of(err[1]) if err[1] is not None else None
        if skip is not None:  # pytest's skip, which unittest reports as an error
            self.skip = skip if subtest is None else self.skip
            return
        problem = problem_of(err, subtest)
        self.problems.append(problem)
        if subtest is None and self._on_problem is not None:
            self._on_problem(problem)
