"""What pytest's skip(), xfail(), fail(), raises() and exit() do in a rank, whatever runs it."""

from __future__ import annotations

import sys
import unittest

from suites.samples import pytest_outcomes
from suites.selftest.support import ROOT, CommandTestCase, run_case, run_python


class TestUnderUnittest(unittest.TestCase):
    def check(self, cls, names):
        for name in names:
            status, text = pytest_outcomes.STATUS[name]
            with self.subTest(f"{cls.__name__}.{name}"):
                result = run_case(cls, name)
                self.assertEqual(result.status, status, result.text)
                self.assertIn(text, result.text)

    def test_processes(self):
        self.check(pytest_outcomes.Processes, pytest_outcomes.STATUS)

    def test_processes_that_stay(self):
        self.check(pytest_outcomes.Continuous, pytest_outcomes.STATUS)

    def test_threads(self):
        self.check(pytest_outcomes.Threads, pytest_outcomes.STATUS)

    def test_threads_by_decorator(self):
        self.check(pytest_outcomes.Decorated, ("test_skip", "test_xfail", "test_fail"))


class TestWaysIn(CommandTestCase):
    def setUp(self):
        super().setUp()
        text = (ROOT / "suites/samples/pytest_outcomes.py").read_text()
        self.write("test_them.py", text)

    def pytest(self, *arguments):
        return self.run_command(
            sys.executable, "-m", "pytest", "-rsx", "-p", "no:cacheprovider", *arguments
        )

    def test_pytest(self):
        done = self.pytest("test_them.py::Processes", "test_them.py::Threads")
        # In each class: test_fail, raises, one_skips, one_xfails and subtests fail. Newer versions
        # of pytest say that a test with a sub-test that failed has passed besides.
        self.assertRegex(done.out, r"10 failed, [24] passed, 6 skipped, 4 xfailed")
        self.assertRegex(done.out, r"test_them.py:\d+: RanksFailedError")
        self.assertNotIn("_pytest/outcomes.py", done.out)
        self.assertIn("known bug", done.out)
        self.assertIn("not today", done.out)

    def test_runner(self):
        done = self.harness("test_them.Processes", "test_them.Threads")
        self.assertEqual((done.code, done.last_line), (1, "2 passed, 10 failed, 10 skipped"))

    def test_exit(self):
        self.write(
            "test_exit.py",
            """
            import pytest
            from harness import MultiProcessTestCase, MultiThreadedTestCase


            class TestProcesses(MultiProcessTestCase):
                world_size = 2

                def test_exit(self):
                    if self.rank == 1:
                        pytest.exit("enough")


            class TestThreads(MultiThreadedTestCase):
                world_size = 2

                def test_exit(self):
                    pytest.exit("enough")
            """,
        )
        for name in ("TestProcesses", "TestThreads"):
            done = self.pytest(f"test_exit.py::{name}", "test_them.py")
            self.assertIn("Exit: enough (rank ", done.out)
            self.assertIn("no tests ran", done.out)
        done = self.run_command(sys.executable, "-m", "unittest", "test_exit")
        self.assertIn("FAILED (errors=2)", done.err)
        self.assertIn("rank 1: _pytest.outcomes.Exit: enough", done.err)

    def test_pytest_is_not_imported(self):
        """By a rank whose test does not."""
        code = "import harness.cases.raising, harness.ranks.child.main, sys; print(*sys.modules)"
        names = run_python("-c", code).stdout.split()
        self.assertIn("harness.model.pytest_outcomes", names)
        self.assertEqual([name for name in names if name.startswith("_pytest")], [])
