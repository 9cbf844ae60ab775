"""Runs tests one after the other in this process, each class's fixtures around its tests."""

from __future__ import annotations

import sys
import unittest
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from harness.runner.results import RecordingResult, TestRecord


class Performer:
    """Runs tests as unittest would run them all in one suite, but takes them one by one.

    Args:
        on_record: told of each test (or fixture that failed) when it is done.
        failfast: leave a test at its first sub-test that fails.
    """

    def __init__(self, on_record: Callable[[TestRecord], None], failfast: bool = False) -> None:
        self._on_record = on_record
        self._result = RecordingResult(self._take)
        self._result.failfast = failfast
        # Else each test would be a run of its own, with the fixtures of its class.
        self._result._testRunEntered = True  # type: ignore[attr-defined]
        self._taken = 0

    def perform(self, test: unittest.TestCase) -> None:
        """Run a test, after the fixtures that it needs and the last one does not."""
        self._result.shouldStop = False
        before = self._taken
        unittest.TestSuite([test]).run(self._result)
        if self._taken == before:
            self._result.settle_by_fixture(test.id())

    def rest(self) -> None:
        """Take down the fixtures of the last test's class and module."""
        suite = unittest.TestSuite()
        suite._tearDownPreviousClass(None, self._result)  # type: ignore[attr-defined]
        suite._handleModuleTearDown(self._result)  # type: ignore[attr-defined]
        self._result._previousTestClass = None  # type: ignore[attr-defined]

    def _take(self, record: TestRecord) -> None:
        self._taken += 1
        self._on_record(record)


@contextmanager
def warnings_shown() -> Iterator[None]:
    """Show warnings as unittest's own runner does, unless the user has said how."""
    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.simplefilter("default")
        yield
