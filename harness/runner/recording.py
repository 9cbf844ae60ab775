"""Turns what unittest reports of one test after the other into records, one for each test."""

from __future__ import annotations

import unittest
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest.suite import _ErrorHolder  # type: ignore[attr-defined]
from unittest.util import strclass

from harness.model import notes, rerun, timeline
from harness.model.clock import now
from harness.runner.results import SkippedSubtest, Status, TestRecord, Trouble

_NO_OUTCOME = (
    "NoOutcome: unittest reported neither success nor failure nor skip for this test, so it does "
    "not count as passed: a run() of its own, or of a base class, must run the test and report to "
    "the result that it is given"
)


class RecordingResult(unittest.TestResult):
    """Collects all that unittest says about one test, and passes it on as one record.

    Call `begin()` before a test's suite runs and `settle()` after it.

    Args:
        on_record: the listener.
    """

    def __init__(self, on_record: Callable[[TestRecord], None]) -> None:
        super().__init__()
        self._on_record = on_record
        self._blank = TestRecord("")
        self._record: TestRecord | None = None
        # Failures of fixtures since begin(). unittest reports the cleanups of a class one by one
        # under the same name: they make one record.
        self._fixtures: dict[str, TestRecord] = {}
        # Why the fixtures skipped that did when they last ran.
        self._skipped: dict[str, str] = {}
        self._class_copies = (0, 0)

    def begin(self, test_id: str, copy: int = 0, class_copy: int = 0) -> None:
        """The suite of this test is about to run."""
        self._blank = TestRecord(test_id, copy=copy)
        self._record = None
        self._class_copies = (self._class_copies[1], class_copy)

    def settle(self, test: unittest.TestCase) -> str:
        """The suite of the test has run: pass on its record.

        Returns:
            the key of the fixture that failed and so kept the test from running, which then has no
            record; otherwise empty.
        """
        self._flush_fixtures()
        if self._record is None:
            fixture = self._fixture_that_failed(test)
            if fixture and fixture not in self._skipped:
                return self._fixture_record(fixture).key
            self._record = replace(self._blank, started_s=now(), troubles=[])
            if fixture:
                self._record.status = Status.SKIPPED
                self._record.reason = self._skipped[fixture]
        if self._record.status is None and self._record.skipped_subtests:
            # unittest calls a test with a skipped sub-test neither success nor skip.
            self._record.status = Status.PASSED
        if self._record.status is None:
            self.fail(_NO_OUTCOME)
        self._finish(self._record)
        return ""

    def give_up(self) -> None:
        """The suite was interrupted: pass on what is known; a test without outcome has not run."""
        self._flush_fixtures()
        if self._record is not None and self._record.status is not None:
            self._finish(self._record)

    def rested(self) -> None:
        """Fixtures were taken down without a test: pass on their failures."""
        self._flush_fixtures()

    @property
    def has_failed(self) -> bool:
        """Whether the test, or a fixture before it, has failed since `begin()`."""
        return any(record.status is Status.FAILED for record in self._unsettled())

    def has_told(self, text: str) -> bool:
        """Whether one of these failures says this."""
        records = self._unsettled()
        return any(text in trouble.text for record in records for trouble in record.troubles)

    def _unsettled(self) -> list[TestRecord]:
        return [*self._fixtures.values(), *([self._record] if self._record else [])]

    def fail(self, text: str) -> None:
        """Have the test that `begin()` announced fail for a reason that unittest does not know."""
        record = self._of_test()
        record.status = Status.FAILED
        record.troubles.append(Trouble("ERROR", record.key, text))

    def _fixture_that_failed(self, test: unittest.TestCase) -> str:
        """The fixture for whose sake unittest's suite passed over the test; empty if there is none.

        The attributes are those by which `unittest.TestSuite.run` decides (Python 3.10 to 3.14).
        """
        if getattr(self, "_moduleSetUpFailed", False):
            return f"setUpModule ({type(test).__module__})"
        if getattr(type(test), "_classSetupFailed", False):
            return f"setUpClass ({strclass(type(test))})"
        return ""

    # What unittest calls

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self._flush_fixtures()
        self._of_test()

    def stopTest(self, test: unittest.TestCase) -> None:
        super().stopTest(test)
        record = self._of_test()
        record.seconds = now() - record.started_s

    def addSuccess(self, test: unittest.TestCase) -> None:
        super().addSuccess(test)
        self._pass("")

    def addExpectedFailure(self, test: unittest.TestCase, err: Any) -> None:
        super().addExpectedFailure(test, err)
        self._pass("expected failure")

    def _pass(self, reason: str) -> None:
        record = self._of_test()
        if record.status is None:
            record.status, record.reason = Status.PASSED, reason

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:
        super().addFailure(test, err)
        self._trouble("FAIL", test, self.failures[-1][1])

    def addError(self, test: unittest.TestCase, err: Any) -> None:
        super().addError(test, err)
        self._trouble("ERROR", test, self.errors[-1][1])

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:
        before = len(self.failures)
        super().addSubTest(test, subtest, err)
        if err is not None:
            failed = len(self.failures) > before
            text = (self.failures if failed else self.errors)[-1][1]
            self._trouble("FAIL" if failed else "ERROR", subtest, text)

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        super().addUnexpectedSuccess(test)
        self._trouble("XPASS", test, "passed, but is marked as an expected failure")

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        super().addSkip(test, reason)
        if isinstance(test, _ErrorHolder):
            self._of_fixture(test.id()).reason = reason or "skipped"
            return
        record = self._of_test()
        if hasattr(test, "test_case"):
            record.skipped_subtests.append(SkippedSubtest(test.id(), reason))
        elif record.status is None:  # one that has failed has failed, whatever its cleanups do
            record.status, record.reason = Status.SKIPPED, reason

    def _trouble(self, label: str, test: unittest.TestCase, text: str) -> None:
        is_fixture = isinstance(test, _ErrorHolder)
        record = self._of_fixture(test.id()) if is_fixture else self._of_test()
        record.status = Status.FAILED
        title = f"{test.id()}{record.copy_suffix}"
        record.troubles.append(Trouble(label, title, text.rstrip("\n")))

    # Records

    def _of_test(self) -> TestRecord:
        """The record of the test that runs; a test that runs itself twice has one."""
        if self._record is None:
            self._record = replace(self._blank, started_s=now(), troubles=[], skipped_subtests=[])
        return self._record

    def _of_fixture(self, name: str) -> TestRecord:
        return self._fixtures.setdefault(name, self._fixture_record(name))

    def _fixture_record(self, name: str) -> TestRecord:
        before, now_set_up = self._class_copies
        copy = {"tearDownClass": before, "setUpClass": now_set_up}.get(name.partition(" ")[0], 0)
        return TestRecord(name, copy=copy)

    def _flush_fixtures(self) -> None:
        fixtures, self._fixtures = self._fixtures, {}
        for name, record in fixtures.items():
            self._skipped.pop(name, None)
            if record.reason and name.startswith("setUp"):
                self._skipped[name] = record.reason  # told by each test that it skips
            elif record.status is None:
                record.status = Status.SKIPPED
            if record.status is not None:
                self._finish(record)

    def _finish(self, record: TestRecord) -> None:
        if record.troubles:
            _tell_command(record)
        record.notes = notes.take()
        record.ranks = timeline.take()
        self._on_record(record)


def _tell_command(record: TestRecord) -> None:
    """Have the last of a test's failures end with how to run it again, unless one says so."""
    texts = (trouble.text for trouble in record.troubles)
    if any(line.startswith(rerun.MARK) for text in texts for line in text.splitlines()):
        return
    command = rerun.command_for_name(record.owner if record.is_fixture else record.test_id)
    if command:
        *others, last = record.troubles
        text = f"{last.text}\n\n{rerun.MARK}{command}"
        record.troubles = [*others, replace(last, text=text)]
