"""Runs tests one after the other in this process, each class's fixtures around its tests."""

from __future__ import annotations

import sys
import traceback
import unittest
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.util import strclass

from harness.runner.recording import RecordingResult
from harness.runner.results import TestRecord


class Performer:
    """Runs tests as unittest would run them all in one suite, but takes them one by one.

    Args:
        on_record: told of each test (or fixture that failed) when it is done.
        failfast: leave a test at its first sub-test that fails.
    """

    def __init__(self, on_record: Callable[[TestRecord], None], failfast: bool = False) -> None:
        self._result = RecordingResult(on_record)
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
            _Suite([test]).run(self._result)
        except SystemExit:  # from a run() of the test's own
            self._result.fail(traceback.format_exc().rstrip())
        except BaseException:
            self._result.give_up()
            raise
        return self._result.settle(test)

    def fail(self, test_id: str, copy: int, text: str) -> None:
        """Report a test that cannot be run."""
        self._result.begin(test_id, copy)
        self._result.fail(text)
        self._result.give_up()

    def rest(self) -> None:
        """Take down the fixtures of the last test's class and module."""
        self._result.begin("")
        suite = _Suite()
        suite._tearDownPreviousClass(None, self._result)
        suite._handleModuleTearDown(self._result)
        self._result.rested()
        self._result._previousTestClass = None  # type: ignore[attr-defined]


class _Suite(unittest.TestSuite):
    """A suite in which a fixture that exits has failed, as a test that exits has.

    In unittest's own (Python 3.10 to 3.14) SystemExit from a fixture of a class or module ends the
    run, even with exit code 0, and no test after it is reported.
    """

    def _tearDownPreviousClass(self, test: Any, result: Any) -> None:
        last: type = getattr(result, "_previousTestClass", None) or type(None)
        with self._no_exit(result, "tearDownClass", strclass(last)):
            super()._tearDownPreviousClass(test, result)  # type: ignore[misc]

    def _handleClassSetUp(self, test: Any, result: Any) -> None:
        def failed() -> None:
            type(test)._classSetupFailed = True
            type(test).doClassCleanups()

        with self._no_exit(result, "setUpClass", strclass(type(test)), failed):
            super()._handleClassSetUp(test, result)  # type: ignore[misc]

    def _handleModuleFixture(self, test: Any, result: Any) -> None:
        def failed() -> None:
            result._moduleSetUpFailed = True

        with self._no_exit(result, "setUpModule", type(test).__module__, failed):
            super()._handleModuleFixture(test, result)  # type: ignore[misc]

    def _handleModuleTearDown(self, result: Any) -> None:
        last: type = getattr(result, "_previousTestClass", None) or type(None)
        with self._no_exit(result, "tearDownModule", last.__module__):
            super()._handleModuleTearDown(result)  # type: ignore[misc]

    @contextmanager
    def _no_exit(
        self, result: Any, fixture: str, owner: str, failed: Callable[[], None] = lambda: None
    ) -> Iterator[None]:
        try:
            yield
        except SystemExit as error:
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
