"""Run tests one by one in this process, with the fixtures of their classes and modules."""

from __future__ import annotations

import os
import sys
import traceback
import unittest
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.util import strclass

from harness.ranks.process_exit import leave_if_fork_of
from harness.runner.recording import RecordingResult
from harness.runner.results import TestRecord


class Performer:
    """Runs one test at a time, with the fixtures that a suite of all of them would run.

    unittest sets up a class or module when the test differs from the last one in it. That works
    across suites that share a result, so each test is a suite of its own with the same result.

    Args:
        on_record: called with the record of each test, and of each fixture that failed.
        failfast: whether a test ends at its first failing subtest.
        damage: called after each test; returns a description of the damage that the test did to
            the process, which fails the test. Empty for none.
        is_to_stop: whether the user has stopped the run. If not, a KeyboardInterrupt comes from
            the test itself, and fails it.
    """

    def __init__(
        self,
        on_record: Callable[[TestRecord], None],
        failfast: bool = False,
        damage: Callable[[], str] = lambda: "",
        is_to_stop: Callable[[], bool] = lambda: True,
    ) -> None:
        self._pid = os.getpid()
        self._on_record = on_record
        self._damage = damage
        self._is_to_stop = is_to_stop
        self._result = RecordingResult(self._pass_on)
        self._result.failfast = failfast
        # Otherwise each suite tears down all fixtures at its end (CPython 3.11 to 3.14).
        self._result._testRunEntered = True  # type: ignore[attr-defined]

    def perform(
        self, test: unittest.TestCase, test_id: str = "", copy: int = 0, class_copy: int = 0
    ) -> str:
        """Run a test; first tear down and set up fixtures if its class or module has changed.

        Args:
            test: the test.
            test_id: its id in the plan; by default its own.
            copy: its number among the tests with this id, from 0.
            class_copy: the number of its class among the classes with the same name, from 0.

        Returns:
            the key of the fixture whose failure kept the test from running; empty if the test has
            a record.
        """
        # unittest sets this for --failfast after a failure, and would skip the next test.
        self._result.shouldStop = False
        self._result.begin(test_id or test.id(), copy, class_copy)
        try:
            self._suite([test]).run(self._result)
        except BaseException as error:
            leave_if_fork_of(self._pid, 1)
            # unittest catches SystemExit in a test. It comes from a run() that the class overrides.
            if not self._is_of_the_test(error):
                self._result.give_up()
                raise
            self._result.fail(traceback.format_exc().rstrip())
        self._leave_if_fork()
        damage = self._damage()
        if damage and not self._result.has_told(damage):
            self._result.fail(damage)
        return self._result.settle(test)

    def _suite(self, tests: Sequence[unittest.TestCase] = ()) -> _Suite:
        return _Suite(tests, self._is_of_the_test)

    def _is_of_the_test(self, error: BaseException) -> bool:
        """Whether the error fails the test or fixture that raised it, instead of ending the run."""
        if isinstance(error, KeyboardInterrupt):
            return not self._is_to_stop()
        return isinstance(error, SystemExit)

    def _leave_if_fork(self) -> None:
        """Exit in a child that the test forked, with the exit code that unittest uses."""
        leave_if_fork_of(self._pid, 1 if self._result.has_failed else 0)

    def _pass_on(self, record: TestRecord) -> None:
        self._leave_if_fork()  # a child forked in a fixture arrives here before `perform` ends
        self._on_record(record)

    def fail(self, test_id: str, copy: int, text: str) -> None:
        """Report a test that cannot run."""
        self._result.begin(test_id, copy)
        self._result.fail(text)
        self._result.give_up()

    def tear_down(self) -> None:
        """Tear down the fixtures of the last test's class and module."""
        self._result.begin("")
        suite = self._suite()
        suite._tearDownPreviousClass(None, self._result)
        suite._handleModuleTearDown(self._result)
        self._leave_if_fork()
        self._result.torn_down()
        # Otherwise the next test of this class would run without setUpClass.
        self._result._previousTestClass = None  # type: ignore[attr-defined]


class _Suite(unittest.TestSuite):
    """A suite in which a fixture that raises SystemExit fails, like a test that does.

    In unittest's own suite (CPython 3.11 to 3.14), SystemExit from a fixture of a class or module
    ends the run, even with exit code 0, and the tests after it are not reported.

    Args:
        tests: the tests.
        is_failure: whether an error that is not an Exception fails the fixture; otherwise it ends
            the run.
    """

    def __init__(
        self, tests: Sequence[unittest.TestCase], is_failure: Callable[[BaseException], bool]
    ) -> None:
        super().__init__(tests)
        self._is_failure = is_failure

    def _tearDownPreviousClass(self, test: Any, result: Any) -> None:
        last: type = getattr(result, "_previousTestClass", None) or type(None)
        with self._failing(result, "tearDownClass", strclass(last)):
            super()._tearDownPreviousClass(test, result)  # type: ignore[misc]

    def _handleClassSetUp(self, test: Any, result: Any) -> None:
        def failed() -> None:
            type(test)._classSetupFailed = True
            type(test).doClassCleanups()

        with self._failing(result, "setUpClass", strclass(type(test)), failed):
            super()._handleClassSetUp(test, result)  # type: ignore[misc]

    def _handleModuleFixture(self, test: Any, result: Any) -> None:
        def failed() -> None:
            result._moduleSetUpFailed = True

        with self._failing(result, "setUpModule", type(test).__module__, failed):
            super()._handleModuleFixture(test, result)  # type: ignore[misc]

    def _handleModuleTearDown(self, result: Any) -> None:
        last: type = getattr(result, "_previousTestClass", None) or type(None)
        with self._failing(result, "tearDownModule", last.__module__):
            super()._handleModuleTearDown(result)  # type: ignore[misc]

    @contextmanager
    def _failing(
        self, result: Any, fixture: str, owner: str, failed: Callable[[], None] = lambda: None
    ) -> Iterator[None]:
        try:
            yield
        except (SystemExit, KeyboardInterrupt) as error:
            if not self._is_failure(error):
                raise
            failed()
            make: Any = self._createClassOrModuleLevelException  # type: ignore[attr-defined]
            make(result, error, fixture, owner)


@contextmanager
def warnings_shown() -> Iterator[None]:
    """Show warnings as unittest's runner does, unless the user has set a filter (`-W`)."""
    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.simplefilter("default")
        yield
