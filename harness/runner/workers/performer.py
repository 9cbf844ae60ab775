"""Runs tests one after the other in this process, each class's fixtures around its tests."""

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
    """Runs tests as unittest would run them all in one suite, but takes them one by one.

    Args:
        on_record: told of each test (or fixture that failed) when it is done.
        failfast: leave a test at its first sub-test that fails.
        damage: called when a test has run; returns what it has done to the process, in words, for
            which it fails. Empty for nothing.
        is_to_stop: whether somebody has asked for the run to stop. Otherwise KeyboardInterrupt is
            the test's own, which fails it.
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
        # Else each test would be a run of its own, with the fixtures of its class.
        self._result._testRunEntered = True  # type: ignore[attr-defined]

    def perform(
        self, test: unittest.TestCase, test_id: str = "", copy: int = 0, class_copy: int = 0
    ) -> str:
        """Run a test, after the fixtures that it needs and the last one does not.

        Args:
            test: the test.
            test_id: what the plan calls it; by default what it calls itself.
            copy: which of the tests with this name it is, from 0.
            class_copy: which of the classes with the name of its class it belongs to, from 0.

        Returns:
            the key of the fixture that failed and so kept the test from running; empty if the test
            has a record.
        """
        self._result.shouldStop = False
        self._result.begin(test_id or test.id(), copy, class_copy)
        try:
            self._suite([test]).run(self._result)
        except BaseException as error:
            leave_if_fork_of(self._pid, 1)
            # SystemExit comes from a run() of the test's own.
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
        """Whether it fails the test or fixture that raised it, rather than end the run."""
        if isinstance(error, KeyboardInterrupt):
            return not self._is_to_stop()
        return isinstance(error, SystemExit)

    def _leave_if_fork(self) -> None:
        """End a child that the test has forked, with the exit code that unittest would give it."""
        leave_if_fork_of(self._pid, 1 if self._result.has_failed else 0)

    def _pass_on(self, record: TestRecord) -> None:
        self._leave_if_fork()  # one that was forked in a fixture comes here first
        self._on_record(record)

    def fail(self, test_id: str, copy: int, text: str) -> None:
        """Report a test that cannot be run."""
        self._result.begin(test_id, copy)
        self._result.fail(text)
        self._result.give_up()

    def rest(self) -> None:
        """Take down the fixtures of the last test's class and module."""
        self._result.begin("")
        suite = self._suite()
        suite._tearDownPreviousClass(None, self._result)
        suite._handleModuleTearDown(self._result)
        self._leave_if_fork()
        self._result.rested()
        self._result._previousTestClass = None  # type: ignore[attr-defined]


class _Suite(unittest.TestSuite):
    """A suite in which a fixture that exits has failed, as a test that exits has.

    In unittest's own (Python 3.11 to 3.14) SystemExit from a fixture of a class or module ends the
    run, even with exit code 0, and no test after it is reported.

    Args:
        tests: the tests.
        is_failure: whether what a fixture raised is its failure, though it is no Exception.
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
    """Show warnings as unittest's own runner does, unless the user has said how."""
    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.simplefilter("default")
        yield
