"""Runs for the self-tests of the history, and a file for each test to record them in."""

from __future__ import annotations

import contextlib
import sqlite3
from unittest import mock

from harness.runner.history import file
from harness.runner.history.history import History, open_history
from harness.runner.results import RunResult, Status, TestRecord, Trouble
from suites.selftest.support import FolderTestCase

# Tests that meet a lock wait for it for this long instead.
LOCK_S, QUICK_S = file._LOCK_S, 0.05


def passed(name, seconds=1.0, **more):
    return TestRecord(f"m.Test.{name}", Status.PASSED, seconds=seconds, **more)


def failed(name, seconds=1.0, text="AssertionError: 1 != 2", **more):
    trouble = Trouble("FAIL", f"m.Test.{name}", f"Traceback:\n  File x\n{text}")
    return TestRecord(f"m.Test.{name}", Status.FAILED, seconds=seconds, troubles=[trouble], **more)


def skipped(name):
    return TestRecord(f"m.Test.{name}", Status.SKIPPED, reason="no CUDA")


class HistoryTestCase(FolderTestCase):
    def setUp(self):
        super().setUp()
        self.path = self.folder / "history.sqlite"
        self.runs = 0
        self.enterContext(mock.patch.object(file, "_LOCK_S", QUICK_S))

    def open(self) -> History:
        return open_history(str(self.path))

    def record(self, *records, code="c0"):
        """A run a minute after the one before."""
        history = self.open()
        self.runs += 1
        history.record(RunResult(list(records), started_at=60.0 * self.runs), code)
        self.assertEqual(history.problem, "")

    def names(self, ids):
        return [test_id.rpartition(".")[2] for test_id in ids]

    def sql(self, statement, *parameters):
        with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            return connection.execute(statement, parameters).fetchall()
