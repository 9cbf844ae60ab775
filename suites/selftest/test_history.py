"""The history of runs: what is kept, what is said of it, and the command that prints it."""

from __future__ import annotations

import os
import subprocess
import unittest
from unittest import mock

from harness.model.timeline import RankTrack
from harness.runner.history import file, tables
from harness.runner.history.code_version import code_version
from harness.runner.history.trends import Flaky, NewlyFailing, Outcome, Slow, trends_of
from harness.runner.results import RunResult, Status, TestRecord, Trouble
from suites.selftest.history_runs import HistoryTestCase, failed, passed, skipped


class TestDurations(HistoryTestCase):
    def test_nothing_yet(self):
        history = self.open()
        self.assertEqual((history.durations(), history.last_failed()), ({}, []))
        self.assertEqual((history.trends().runs, history.problem), (0, ""))
        self.assertFalse(self.path.exists())

    def test_the_median_of_the_last_five(self):
        for seconds in (100, 100, 1, 2, 3, 4, 50):
            self.record(passed("a", seconds))
        self.assertEqual(self.open().durations(), {"m.Test.a": 3.0})

    def test_fewer_than_five(self):
        self.record(passed("a", 1.5), passed("b", 0.000002))
        self.record(failed("a", 2.5))
        self.assertEqual(self.open().durations(), {"m.Test.a": 2.0, "m.Test.b": 0.000002})

    def test_runs_in_which_it_was_skipped_do_not_count(self):
        for seconds in (1, 2, 3):
            self.record(passed("a", seconds))
            self.record(skipped("a"), passed("b"))
        self.assertEqual(self.open().durations()["m.Test.a"], 2.0)

    def test_what_is_recorded_is_there_at_once(self):
        history = self.open()
        history.record(RunResult([passed("a", 3)]), "c")
        self.assertEqual(history.durations(), {"m.Test.a": 3.0})


class TestLastFailed(HistoryTestCase):
    def test_of_the_last_run(self):
        self.record(failed("a"), passed("b"), failed("c"))
        self.assertEqual(self.names(self.open().last_failed()), ["a", "c"])

    def test_a_partial_run_that_passes_it_clears_it(self):
        self.record(failed("a"), failed("b"))
        self.record(passed("a"))
        self.assertEqual(self.names(self.open().last_failed()), ["b"])

    def test_a_run_without_it_leaves_it(self):
        self.record(failed("a"), passed("b"))
        self.record(skipped("a"), passed("b"))
        self.record(TestRecord("m.Test.a"), passed("b"))
        self.assertEqual(self.names(self.open().last_failed()), ["a"])

    def test_one_that_passed_when_tried_again_has_not_failed(self):
        self.record(passed("a", earlier=[failed("a")]))
        self.assertEqual(self.open().last_failed(), [])

    def test_running_one_test_many_times_keeps_the_others(self):
        self.record(failed("a", 7), passed("b"))
        with mock.patch.object(tables, "KEPT_RUNS", 3):
            for _ in range(8):
                self.record(passed("b"))
        self.assertEqual(self.names(self.open().last_failed()), ["a"])
        self.assertEqual(self.open().durations()["m.Test.a"], 7.0)


class TestWhatIsKept(HistoryTestCase):
    def rows(self):
        return self.sql(
            "SELECT name, failed, flaky, attempts, us, ranks, why"
            " FROM outcomes JOIN tests ON tests.id = test ORDER BY test, run"
        )

    def test_of_each_test(self):
        ranks = tuple(RankTrack(rank, None, (), (), "passed") for rank in range(4))
        again = passed("c", 0.25, earlier=[failed("c"), failed("c", text="OSError: gone")])
        self.record(passed("a", 1.5, ranks=ranks), failed("b"), again)
        self.assertEqual(
            self.rows(),
            [
                ("m.Test.a", 0, 0, 1, 1_500_000, 4, None),
                ("m.Test.b", 1, 0, 1, 1_000_000, 0, "AssertionError: 1 != 2"),
                ("m.Test.c", 0, 1, 3, 250_000, 0, "OSError: gone"),
            ],
        )

    def test_a_long_reason_is_cut(self):
        self.record(failed("a", text="E: " + "x" * 5000))
        self.assertEqual(self.rows()[0][-1], "E: " + "x" * 297)

    def test_text_that_is_no_utf8(self):
        self.record(failed("a", text="E: \udcff\0"))
        self.assertEqual(self.rows()[0][-1], "E: \\udcff\0")

    def test_only_tests_that_ran(self):
        broken = Trouble("ERROR", "import of m", "Traceback\nImportError: no")
        fixture = Trouble("ERROR", "setUpClass (m.Test)", "Traceback\nOSError: no")
        self.record(
            passed("a"),
            skipped("b"),
            TestRecord("m.Test.c"),
            TestRecord("m", Status.FAILED, troubles=[broken]),
            TestRecord("setUpClass (m.Test)", Status.FAILED, troubles=[fixture]),
            TestRecord("tearDownModule (m)", Status.FAILED, troubles=[fixture]),
        )
        self.assertEqual([row[0] for row in self.rows()], ["m.Test.a"])

    def test_a_run_in_which_nothing_ran_is_none(self):
        self.record(skipped("a"))
        self.record()
        self.assertFalse(self.path.exists())

    def test_a_test_that_ran_twice_in_a_run(self):
        self.record(passed("a", 1), failed("a", 2), passed("b", 3), passed("b", 4))
        flags = [row[:5] for row in self.rows()]
        self.assertEqual(
            flags, [("m.Test.a", 1, 1, 2, 2_000_000), ("m.Test.b", 0, 0, 2, 4_000_000)]
        )

    def test_the_last_runs_of_each_test(self):
        self.assertEqual(tables.KEPT_RUNS, 50)
        with mock.patch.object(tables, "KEPT_RUNS", 3):
            for number in range(6):
                self.record(passed("a", number), passed("b"))
        kept = self.sql("SELECT count(*), min(us), max(us) FROM outcomes WHERE test = 1")
        self.assertEqual(kept, [(3, 3_000_000, 5_000_000)])
        self.assertEqual(self.open().trends().runs, 3)

    def test_a_test_that_is_gone_is_forgotten_in_the_end(self):
        with mock.patch.object(tables, "FORGOTTEN_RUNS", 5):
            self.record(failed("gone"), passed("a"))
            for _ in range(5):
                self.assertEqual(self.names(self.open().last_failed()), ["gone"])
                self.record(passed("a"))
        self.assertEqual(self.sql("SELECT name FROM tests"), [("m.Test.a",)])
        self.assertEqual(self.sql("SELECT count(*) FROM runs"), [(5,)])
        self.assertEqual(self.sql("SELECT count(*) FROM outcomes"), [(5,)])


class TestLargeHistories(HistoryTestCase):
    """5,000 tests x 50 runs; what SQLite does is counted, nothing is timed."""

    TESTS, RUNS = 5000, 50

    def fill(self, run):
        """Record it once; the other runs are copied, without the seconds that recording takes."""
        self.open().record(run, "c")
        self.sql(
            "WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
            " INSERT INTO runs SELECT i, i, 'c', '', 1, 1 FROM n",
            self.RUNS,
        )
        self.sql(
            "INSERT INTO outcomes SELECT test, id, 0, 0, 1, us, 0, NULL"
            " FROM outcomes CROSS JOIN runs WHERE id > 1"
        )

    def counting(self):
        """Statements of all connections, and a mark for every thousand steps within them."""
        statements, steps = [], []
        connect = file._connect

        def counted(*arguments):
            connection = connect(*arguments)
            connection.set_trace_callback(statements.append)
            connection.set_progress_handler(lambda: steps.append(1), 1000)
            return connection

        self.enterContext(mock.patch.object(file, "_connect", counted))
        return statements, steps

    def test_questions_recording_and_size(self):
        """Takes a second, for the quarter of a million outcomes that it makes."""
        run = RunResult([passed(f"t{i}", 2.0) for i in range(self.TESTS)])
        self.fill(run)
        statements, steps = self.counting()
        history = self.open()
        self.assertEqual(len(history.durations()), self.TESTS)
        # Looking at every outcome, or at them for every test, takes millions of steps.
        self.assertLess(len(steps), self.TESTS * self.RUNS * 2 / 1000)
        self.assertEqual(history.last_failed(), [])
        self.assertLess(len(statements), 20)
        statements.clear()
        history.record(run, "c")
        self.assertLess(len(statements), 3 * self.TESTS + 20)
        self.assertEqual(history.problem, "")
        kept = self.sql("SELECT count(*), max(run), min(run) FROM outcomes")
        self.assertEqual(kept, [(self.TESTS * self.RUNS, self.RUNS + 1, 2)])
        self.assertLess(self.path.stat().st_size, 10_000_000)


def outcomes(*marks, code="c"):
    """Outcomes of one run each: `.` passed, `F` failed, `r` failed first and then passed."""
    return [
        Outcome(run, run * 60.0, code, mark == "F", mark == "r", 1.0, "why" if mark == "F" else "")
        for run, mark in enumerate(marks, 1)
    ]


class TestTrends(unittest.TestCase):
    def test_slowest(self):
        def past(*seconds):
            return [Outcome(i, 0.0, "", False, False, s, "") for i, s in enumerate(seconds)]

        found = trends_of(
            {
                "fast": past(0.1, 0.1),
                "slower": past(1, 1, 1, 2, 2, 2, 2, 9),
                "slow": past(30),
                "none": past(0, 0, 0, 0, 0, 0, 0, 0),
            },
            3,
        )
        self.assertEqual(
            found.slowest,
            (Slow("slow", 30, 30, None), Slow("slower", 2, 9, 1.0), Slow("fast", 0.1, 0.1, None)),
        )

    def test_flakiest(self):
        found = trends_of(
            {
                "steady": outcomes(*"......"),
                "failing": outcomes(*"..FFFF"),
                "broke": outcomes(*"..F"),
                "tried again": outcomes(*".r.r.r"),
                "flips": outcomes(*".F.FF."),
                "unknown code": outcomes(*".F.", code=""),
                "mended": [*outcomes("F", code="c1"), outcomes(".", ".", code="c2")[1]],
            },
            10,
        )
        self.assertEqual(found.flakiest, (Flaky("tried again", 6, 3, 0), Flaky("flips", 6, 0, 2)))

    def test_newly_failing(self):
        found = trends_of(
            {
                "new": outcomes(*"..F"),
                "earlier": outcomes(*".F"),
                "for long": outcomes(*".FF"),
                "from the start": outcomes("F"),
                "was flaky": outcomes(*".rF"),
                "mended": outcomes(*".F."),
            },
            10,
        )
        self.assertEqual(
            found.newly_failing,
            (
                NewlyFailing("new", 180.0, 120.0, "why"),
                NewlyFailing("was flaky", 180.0, 120.0, "why"),
                NewlyFailing("earlier", 120.0, 60.0, "why"),
            ),
        )

    def test_tests_that_are_gone_are_not_reported(self):
        past = {
            "here": outcomes(*"." * 60),
            "gone": outcomes(*"." * 10),
            "rare": outcomes(*"." * 11),
        }
        self.assertEqual([s.test_id for s in trends_of(past, 10).slowest], ["here", "rare"])


class TestCodeVersion(HistoryTestCase):
    def git(self, *arguments):
        identity = ("-c", "user.name=x", "-c", "user.email=x@y", "-c", "commit.gpgsign=false")
        subprocess.run(["git", *identity, *arguments], check=True, capture_output=True, timeout=60)

    def setUp(self):
        super().setUp()
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.folder)

    def test_changes_with_the_code(self):
        (self.folder / "a.py").write_text("1\n")
        self.git("init")
        self.git("add", "a.py")
        self.git("commit", "-m", "one")
        committed = code_version()
        self.assertEqual(code_version(), committed)
        (self.folder / "a.py").write_text("2\n")
        changed = code_version()
        (self.folder / "b.py").write_text("3\n")
        added = code_version()
        (self.folder / "notes.txt").write_text("3\n")
        self.assertEqual(code_version(), added)
        self.git("add", ".")
        self.git("commit", "-m", "two")
        versions = {committed, changed, added, code_version()}
        self.assertEqual(len(versions), 4)
        self.assertNotIn("", versions)

    def test_is_recorded_with_a_run(self):
        with mock.patch("harness.runner.history.history.code_version", return_value="state"):
            self.open().record(RunResult([passed("a")]))
        self.assertEqual(self.sql("SELECT code FROM runs"), [("state",)])

    def test_without_git(self):
        self.assertEqual(code_version(), "")
        with mock.patch.dict("os.environ", PATH=""):
            self.assertEqual(code_version(), "")

    def test_without_a_commit(self):
        self.git("init")
        self.assertEqual(code_version(), "")

    def test_a_slow_git(self):
        with mock.patch("subprocess.run", side_effect=subprocess.TimeoutExpired("git", 1)):
            self.assertEqual(code_version(), "")
