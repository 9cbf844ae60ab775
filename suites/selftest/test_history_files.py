"""The file of the history: that none can break a run, whoever else uses it, and where it is."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from unittest import mock

from harness.runner.history import file, tables
from harness.runner.history.history import open_history
from harness.runner.results import RunResult
from suites.selftest.history_runs import LOCK_S, HistoryTestCase, failed, passed
from suites.selftest.support import ROOT, run_python

NOBODY = 65534


class TestBrokenFiles(HistoryTestCase):
    def assert_empty(self, history, *words):
        """It behaves as empty and says so in one line, before and after a run is recorded."""
        before = self.path.read_bytes() if os.path.isfile(self.path) else None
        for _ in range(2):
            self.assertTrue(history.problem.startswith(f"history: {self.path} "), history.problem)
            self.assertNotIn("\n", history.problem)
            for word in (*words, "this run is not recorded"):
                self.assertIn(word, history.problem)
            self.assertEqual((history.durations(), history.last_failed()), ({}, []))
            self.assertEqual(history.trends().runs, 0)
            history.record(RunResult([passed("a")]), "c")
        if before is not None:
            self.assertEqual(self.path.read_bytes(), before)

    def filled(self):
        """A file with several pages."""
        self.record(*(failed(f"t{i}") for i in range(500)))
        return self.path.read_bytes()

    def test_text(self):
        self.path.write_text("these are notes, not a history\n" * 100)
        self.assert_empty(
            self.open(), "is not a database", "(move it away, or give another --history PATH)"
        )

    def test_a_few_bytes(self):
        self.path.write_bytes(b"\x00\x01")
        self.assert_empty(self.open(), "is not a database")

    def test_a_truncated_file(self):
        content = self.filled()
        # Where the rest of a page is missing, the file may be noticed at once or at a question.
        for size in (50, 5000, len(content) // 2, len(content) - 4096):
            self.path.write_bytes(content[:size])
            with self.subTest(size=size):
                history = self.open()
                history.durations()
                history.trends()
                self.assert_empty(history, "is ")

    def test_pages_overwritten_in_the_middle(self):
        content = bytearray(self.filled())
        content[4096:] = b"\xa5" * (len(content) - 4096)
        self.path.write_bytes(content)
        history = self.open()
        history.last_failed()
        self.assert_empty(history, "is damaged")

    def test_damaged_while_in_use(self):
        self.filled()
        history = self.open()
        self.assertEqual(history.problem, "")
        self.path.write_bytes(b"nonsense" * 1000)
        history.record(RunResult([passed("a")]), "c")
        self.assert_empty(history, "is not a database")

    def test_any_byte_changed(self):
        """Whatever a flipped byte does, nothing is raised."""
        content = self.filled()
        for place in range(16, len(content), 1999):
            changed = bytearray(content)
            changed[place] ^= 0xFF
            self.path.write_bytes(changed)
            history = self.open()
            history.durations()
            history.last_failed()
            history.trends()
            history.record(RunResult([passed("t1")]), "c")
            self.assertNotIn("\n", history.problem)

    def test_values_of_another_type(self):
        self.filled()
        self.sql("UPDATE outcomes SET us = 'long' WHERE test = 1")
        history = self.open()
        history.durations()
        self.assert_empty(history, "cannot be used")

    def test_missing_tables(self):
        self.filled()
        self.sql("DROP TABLE outcomes")
        history = self.open()
        history.durations()
        self.assert_empty(history, "is damaged")

    def test_another_programs_database(self):
        self.sql("CREATE TABLE cookies (id INTEGER)")
        self.assert_empty(self.open(), "is a database of another program")

    def test_a_newer_schema(self):
        self.filled()
        self.sql("PRAGMA user_version = 99")
        self.assert_empty(self.open(), "newer harness (schema 99; this one knows 1)")

    def test_a_folder(self):
        self.path.mkdir()
        self.assert_empty(self.open(), "is a folder", "(give the path of a file)")

    def test_a_pipe(self):
        os.mkfifo(self.path)
        self.assert_empty(self.open(), "is not a regular file")

    def test_a_file_where_the_folder_should_be(self):
        self.path.write_text("")
        self.path = self.path / "history.sqlite"
        history = self.open()
        history.record(RunResult([passed("a")]), "c")
        self.assert_empty(history, "cannot be used")

    def test_a_name_that_is_too_long(self):
        self.path = self.folder / ("x" * 300)
        self.assert_empty(self.open(), "cannot be used: File name too long")

    def test_a_disk_that_is_full(self):
        error = sqlite3.OperationalError("database or disk is full")
        with mock.patch.object(tables, "add", side_effect=error):
            history = self.open()
            history.record(RunResult([passed("a")]), "c")
        self.assertIn("cannot be used: database or disk is full", history.problem)

    def test_a_python_without_sqlite(self):
        with mock.patch.object(file, "sqlite3", None):
            self.assert_empty(self.open(), "this Python has no sqlite3")

    def test_an_empty_file_is_a_history_without_runs(self):
        self.path.touch()
        self.assertEqual(self.open().problem, "")
        self.record(passed("a"))
        self.assertEqual(len(self.open().durations()), 1)

    def test_names_with_everything_in_them(self):
        self.path = self.folder / "a folder" / "50% #1?mode=ro&x.sqlite"
        self.record(passed("a"))
        self.assertEqual(os.listdir(self.path.parent), [self.path.name])
        self.assertEqual(len(self.open().durations()), 1)


class TestFilesThatCannotBeWritten(HistoryTestCase):
    SCRIPT = """
import json, os, sys
import urllib.parse  # pathlib does, at first use; the other user may not see root's Python
from harness.runner.history.history import open_history
from harness.runner.results import RunResult, Status, TestRecord
if os.getuid() == 0:
    try:
        os.setuid(int(sys.argv[2]))
    except OSError as error:
        sys.exit(f"no other user: {error}")
history = open_history(sys.argv[1])
at_once, known = history.problem, history.durations()
history.record(RunResult([TestRecord("m.T.new", Status.PASSED)]), "c")
print(json.dumps([at_once, known, history.problem]))
"""

    def as_somebody_else(self):
        """Root may write everything, so that what is forbidden has to be tried by another user."""
        done = run_python("-c", self.SCRIPT, str(self.path), str(NOBODY))
        if done.stderr.startswith("no other user"):
            self.skipTest(f"root cannot become another user here: {done.stderr}")
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def setUp(self):
        super().setUp()
        self.folder.chmod(0o755)
        self.addCleanup(self.folder.chmod, 0o700)

    def test_a_file_that_can_only_be_read_is_read(self):
        self.record(passed("a", 2))
        self.path.chmod(0o444)
        at_once, known, after = self.as_somebody_else()
        self.assertEqual(known, {"m.Test.a": 2.0})
        self.assertIn("cannot be written; this run is not recorded", at_once)
        self.assertEqual(after, at_once)
        self.assertEqual(len(self.open().durations()), 1)

    def test_a_folder_that_can_only_be_read(self):
        self.record(passed("a", 2))
        self.path.chmod(0o666)
        self.folder.chmod(0o555)
        at_once, known, _ = self.as_somebody_else()
        self.assertEqual(known, {"m.Test.a": 2.0})
        self.assertIn("cannot be written; this run is not recorded", at_once)

    def test_a_folder_in_which_no_file_can_be_made(self):
        self.folder.chmod(0o555)
        for path in (self.path, self.folder / "deeper" / "history.sqlite"):
            self.path = path
            at_once, known, after = self.as_somebody_else()
            self.assertEqual((at_once, known), ("", {}))
            self.assertIn("this run is not recorded", after)

    def test_a_file_that_cannot_be_read(self):
        self.record(passed("a", 2))
        self.path.chmod(0)
        at_once, known, _ = self.as_somebody_else()
        self.assertEqual(known, {})
        self.assertIn("cannot be used: Permission denied", at_once)


class TestTogether(HistoryTestCase):
    def locked(self, kind):
        holder = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(holder.close)
        holder.execute(f"BEGIN {kind}")
        return holder

    def test_locked_for_all(self):
        self.record(passed("a"))
        holder = self.locked("EXCLUSIVE")
        history = self.open()
        self.assertEqual(
            history.problem,
            f"history: {self.path} is in use by another process; this run goes without it",
        )
        self.assertEqual(history.durations(), {})
        history.record(RunResult([passed("b")]), "c")
        self.assertIn("is in use by another process; this run is not recorded", history.problem)
        holder.execute("ROLLBACK")
        self.assertEqual(list(self.open().durations()), ["m.Test.a"])

    def test_free_again_when_the_run_is_recorded(self):
        self.record(passed("a"))
        holder = self.locked("EXCLUSIVE")
        history = self.open()
        holder.execute("ROLLBACK")
        history.record(RunResult([passed("b")]), "c")
        self.assertEqual(len(self.open().durations()), 2)

    def test_read_while_another_writes(self):
        self.record(passed("a"))
        self.locked("IMMEDIATE")
        history = self.open()
        self.assertEqual((len(history.durations()), history.problem), (1, ""))

    def test_all_waits_together_are_bounded(self):
        """A transaction waits twice: for other writers, and for readers."""
        self.assertLessEqual(2 * LOCK_S, 2)

    def test_writers_at_once(self):
        script = """
import sys
from harness.runner.history.history import open_history
from harness.runner.results import RunResult, Status, TestRecord
name, path = sys.argv[1:]
print("ready", flush=True)
sys.stdin.readline()
for i in range(10):
    history = open_history(path)
    history.record(RunResult([TestRecord(f"m.T.{name}{i}", Status.PASSED, seconds=1)]), "c")
    assert not history.problem, history.problem
"""
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", script, name, str(self.path)],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for name in "ab"
        ]
        for writer in writers:
            self.assertEqual(writer.stdout.readline(), "ready\n")
        for writer in writers:
            writer.communicate("\n", timeout=60)
        self.assertEqual([writer.returncode for writer in writers], [0, 0])
        history = self.open()
        self.assertEqual((len(history.durations()), history.trends().runs), (20, 20))

    def test_a_run_that_is_killed_while_it_records_leaves_the_file_as_it_was(self):
        self.record(*(passed(f"t{i}") for i in range(100)))
        script = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 1")  # so that half of it is in the file already
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE tests SET name = 'x' || name")
connection.execute("UPDATE outcomes SET failed = 1, us = 7")
os._exit(0)
"""
        run_python("-c", script, str(self.path)).check_returncode()
        self.assertTrue(self.path.with_name(f"{self.path.name}-journal").exists())
        history = self.open()
        self.assertEqual(history.durations(), {f"m.Test.t{i}": 1.0 for i in range(100)})
        self.assertEqual((history.last_failed(), history.problem), ([], ""))

    def test_nothing_stays_open(self):
        self.record(passed("a"))
        history = self.open()
        history.durations()
        links = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
        self.assertNotIn(os.path.realpath(self.path), links)


class TestWhereItIs(HistoryTestCase):
    def default(self, folder, **environ):
        here = os.getcwd()
        os.chdir(folder)
        try:
            with mock.patch.dict("os.environ", environ):
                return open_history(None)
        finally:
            os.chdir(here)

    def project(self, name):
        folder = self.folder / name
        folder.mkdir(parents=True)
        return folder

    def test_a_file_for_each_project_in_the_users_cache(self):
        cache = self.folder / "cache"
        one, other = self.project("x/my project"), self.project("y/my project")
        paths = [self.default(f, XDG_CACHE_HOME=str(cache)).path for f in (one, other, one)]
        self.assertEqual(paths[0], paths[2])
        self.assertNotEqual(paths[0], paths[1])
        for path in paths:
            self.assertEqual(path.parent, cache / "harness")
            self.assertRegex(path.name, r"^history-my_project-[0-9a-f]{10}\.sqlite$")

    def test_in_the_root_folder(self):
        self.assertRegex(self.default("/").path.name, r"^history--[0-9a-f]{10}\.sqlite$")

    def test_the_folder_is_made_for_the_user_alone(self):
        history = self.default(self.folder, XDG_CACHE_HOME=str(self.folder))
        history.record(RunResult([passed("a")]), "c")
        self.assertEqual(history.path.parent.stat().st_mode & 0o777, 0o700)

    def test_the_current_folder_is_gone(self):
        with mock.patch.object(os, "getcwd", side_effect=FileNotFoundError(2, "No such file")):
            history = open_history(None)
        history.record(RunResult([passed("a")]), "c")
        self.assertIn("No such file; this run is not recorded", history.problem)

    def test_a_user_without_a_home(self):
        with mock.patch("platformdirs.user_cache_path", return_value=Path("~/.cache")):
            self.assertIn("there is no home folder", open_history(None).problem)
