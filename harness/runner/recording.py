"""Turn unittest's calls of a TestResult into records, one for each test.

For each test the runner calls `begin()`, runs the test in a suite of its own, and calls `settle()`.
In between, unittest calls, in this order:

    addError, addSkip       with an `_ErrorHolder`: a fixture of a class or module failed or skipped
    startTest
    addSubTest              for each subtest that ran, addSkip for each skipped one
    addSuccess, addFailure  one or several; the worst one counts
    stopTest
    addError                a tearDownClass or tearDownModule failed

Any of these may be missing. If a fixture failed, unittest does not call startTest at all; then the
test has no record, and `settle()` returns the fixture. A test whose own `run()` reports nothing
fails with NoOutcome: it must not count as passed.
"""

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
    """Collects everything that unittest reports about one test in one record.

    Call `begin()` before a test's suite runs and `settle()` after it.

    Args:
        on_record: called with each finished record.
    """

    def __init__(self, on_record: Callable[[TestRecord], None]) -> None:
        super().__init__()
        self._on_record = on_record
        self._blank = TestRecord("")
        self._record: TestRecord | None = None
        # Failures of fixtures since begin(), by name. unittest reports the failed cleanups of a
        # class one by one under the same name; they share a record.
        self._fixtures: dict[str, TestRecord] = {}
        # The fixtures that skipped when they last ran, with the reason. unittest reports the skip
        # once, but every test of the class or module gets its own record.
        self._skipped: dict[str, str] = {}
        self._class_copies = (0, 0)

    def begin(self, test_id: str, copy: int = 0, class_copy: int = 0) -> None:
        """Start a record: the suite of this test is about to run."""
        self._blank = TestRecord(test_id, copy=copy)
        self._record = None
        # tearDownClass belongs to the class of the test before, setUpClass to that of this test.
        self._class_copies = (self._class_copies[1], class_copy)

    def settle(self, test: unittest.TestCase) -> str:
        """Finish the record: the suite of the test has run.

        Returns:
            the key of the failed fixture because of which the test did not run and has no record;
            otherwise empty.
        """
        self._flush_fixtures()
        if self._record is None:
            fixture = self._fixture_that_failed(test)
            if fixture and fixture not in self._skipped:
                return self._fixture_record(fixture).key
            self._record = self._begun()
            if fixture:
                self._record.status = Status.SKIPPED
                self._record.reason = self._skipped[fixture]
        if self._record.status is None and self._record.skipped_subtests:
            # After a skipped subtest, unittest calls neither addSuccess nor addSkip for the test.
            self._record.status = Status.PASSED
        if self._record.status is None:
            self.fail(_NO_OUTCOME)
        self._finish(self._record)
        return ""

    def give_up(self) -> None:
        """Finish the record of an interrupted suite; a test without an outcome gets none."""
        self._flush_fixtures()
        if self._record is not None and self._record.status is not None:
            self._finish(self._record)

    def torn_down(self) -> None:
        """Finish the records of fixtures that were torn down without a test."""
        self._flush_fixtures()

    @property
    def has_failed(self) -> bool:
        """Whether the test, or a fixture before it, has failed since `begin()`."""
        return any(record.status is Status.FAILED for record in self._current_records())

    def has_told(self, text: str) -> bool:
        """Whether the text of one of these failures contains this text."""
        records = self._current_records()
        return any(text in trouble.text for record in records for trouble in record.troubles)

    def _current_records(self) -> list[TestRecord]:
        return [*self._fixtures.values(), *([self._record] if self._record else [])]

    def fail(self, text: str) -> None:
        """Make the current test fail for a reason that unittest does not know."""
        record = self._test_record()
        record.status = Status.FAILED
        record.troubles.append(Trouble("ERROR", record.key, text))

    def _fixture_that_failed(self, test: unittest.TestCase) -> str:
        """Return the fixture because of which unittest skipped over the test; empty if none.

        `unittest.TestSuite.run` decides by these private attributes (Python 3.11 to 3.14).
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
        self._test_record()

    def stopTest(self, test: unittest.TestCase) -> None:
        super().stopTest(test)
        record = self._test_record()
        record.seconds = now() - record.started_s

    def addSuccess(self, test: unittest.TestCase) -> None:
        super().addSuccess(test)
        self._pass("")

    def addExpectedFailure(self, test: unittest.TestCase, err: Any) -> None:
        super().addExpectedFailure(test, err)
        self._pass("expected failure")

    def _pass(self, reason: str) -> None:
        record = self._test_record()
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
        reason = str(reason)  # unittest passes on whatever a decorator was given
        super().addSkip(test, reason)
        if isinstance(test, _ErrorHolder):
            self._shared_fixture_record(test.id()).reason = reason or "skipped"
            return
        record = self._test_record()
        if hasattr(test, "test_case"):
            record.skipped_subtests.append(SkippedSubtest(test.id(), reason))
        elif record.status is None:  # a failed test stays failed, even if a cleanup skips
            record.status, record.reason = Status.SKIPPED, reason

    def _trouble(self, label: str, test: unittest.TestCase, text: str) -> None:
        is_fixture = isinstance(test, _ErrorHolder)
        record = self._shared_fixture_record(test.id()) if is_fixture else self._test_record()
        # The worst result counts: a later addSuccess does not change it.
        record.status = Status.FAILED
        title = f"{test.id()}{record.copy_suffix}"
        record.troubles.append(Trouble(label, title, text.rstrip("\n")))

    # Records

    def _test_record(self) -> TestRecord:
        """Return the record of the current test; one record even if the test runs itself twice."""
        if self._record is None:
            self._record = self._begun()
        return self._record

    def _begun(self) -> TestRecord:
        return TestRecord(self._blank.test_id, copy=self._blank.copy, started_s=now())

    def _shared_fixture_record(self, name: str) -> TestRecord:
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
                self._skipped[name] = record.reason  # each test that it skips reports it
            elif record.status is None:
                record.status = Status.SKIPPED
            if record.status is not None:
                self._finish(record)

    def _finish(self, record: TestRecord) -> None:
        if record.troubles:
            _append_command(record)
        record.notes = notes.take()
        record.ranks = timeline.take()
        self._on_record(record)


def _append_command(record: TestRecord) -> None:
    """Append the command to run the test again to its last failure, unless one has it already."""
    texts = (trouble.text for trouble in record.troubles)
    if any(line.startswith(rerun.MARK) for text in texts for line in text.splitlines()):
        return
    command = rerun.command_for_name(record.owner if record.is_fixture else record.test_id)
    if command:
        *others, last = record.troubles
        text = f"{last.text}\n\n{rerun.MARK}{command}"
        record.troubles = [*others, replace(last, text=text)]
