"""Test methods whose names are no identifiers, and ids that other libraries have added to."""

from __future__ import annotations

import importlib.util
import json
import sys
import unittest

from suites.selftest.support import CommandTestCase

ABSL = """
from absl.testing import parameterized

from harness import MultiProcContinuousTest, MultiProcessTestCase, MultiThreadedTestCase


class Body(parameterized.TestCase):
    world_size = 2

    @parameterized.parameters((1, 2), (1.5, 2.5))
    def test_plus(self, x, y):
        self.assertEqual(x + 1, y)

    @parameterized.named_parameters(("with space", 2, 3))
    def test_named(self, x, y):
        self.assertEqual(x + 1, y)

    @parameterized.parameters(("a.b", "c\\n"))
    def test_fails(self, x, y):
        self.assertEqual(x, y)


class TestProcesses(MultiProcessTestCase, Body):
    pass


class TestThreads(MultiThreadedTestCase, Body):
    pass


class TestStaying(MultiProcContinuousTest, Body):
    pass


del Body
"""

# Each name as `setattr` gives it; what it is for a file, a shell, a terminal, XML or `%`.
NAMES = (
    "test one two",
    "test_a.b",
    "test_[1-2]",
    "test_a/b",
    "test_√é",
    "test_line\nfeed",
    "test_a::b",
    "test_(1, 'x')",
    "test_%s {} {0}",
    "test_<b>&amp;",
    "test_\x1b[31mred",
    "test_a\\b",
    "test_" + "x" * 300,
    "test_not '\"",
)

ODD = f"""
from harness import MultiProcContinuousTest, MultiProcessTestCase, MultiThreadedTestCase

NAMES = {NAMES!r}


class TestProcesses(MultiProcessTestCase):
    world_size = 2


class TestThreads(MultiThreadedTestCase):
    world_size = 2


class TestStaying(MultiProcContinuousTest):
    world_size = 2


def body(self):
    self.assertIn(self.rank, (0, 1))
    self.assertIn(self._testMethodName, NAMES)


def wrong(self):
    self.assertEqual(self.rank, 3)


for base in (TestProcesses, TestThreads, TestStaying):
    for name in NAMES:
        setattr(base, name, body)
    setattr(base, "test_fails\\n1.5", wrong)

del base
"""
CLASSES = ("TestProcesses", "TestThreads", "TestStaying")

SCENARIOS = """
from harness import MultiProcessTestCase


class TestScenario(MultiProcessTestCase):
    world_size = 2

    def id(self):  # as testscenarios does
        return super().id() + "(linux.x, a b)"

    def test_scenario(self):
        self.assertTrue(self.id().endswith("(linux.x, a b)"))
"""


class TestNames(CommandTestCase):
    def runs(self, name, *jobs):
        """The ways to run the tests of a file."""
        yield "unittest", self.run_command(sys.executable, "-m", "unittest", name)
        yield "pytest", self.run_command(sys.executable, "-m", "pytest", "-q", f"{name}.py")
        for count in jobs or ("1",):
            yield f"-j {count}", self.harness(f"{name}.py", "-j", count, "--no-history")

    def test_any_name_runs_in_ranks(self):
        self.write("test_odd.py", ODD)
        good, bad = len(NAMES) * len(CLASSES), len(CLASSES)
        for way, finished in self.runs("test_odd", "0", "1", "4"):
            with self.subTest(way):
                counts = {
                    "unittest": f"FAILED (failures={bad})",
                    "pytest": f"{bad} failed, {good} passed",
                }.get(way, f"{good} passed, {bad} failed, 0 skipped")
                self.assertIn(counts, finished.out + finished.err)
                self.assert_clean_temp(finished)

    def assert_clean_temp(self, finished):
        self.assertEqual(finished.left_processes, [])
        self.assertEqual([f for f in finished.left_files if "harness-" in f], [])

    def test_names_stay_one_line_and_do_nothing_to_a_terminal(self):
        self.write("test_odd.py", ODD)
        finished = self.harness("test_odd.py", "-v", "--no-history", "-k", "red or line or fails")
        self.assertIn(r"test_odd.TestProcesses.test_line\nfeed", finished.out)
        self.assertIn(r"test_odd.TestProcesses.test_\x1b[31mred", finished.out)
        self.assertIn("FAIL: test_odd.TestThreads.test_fails\\n1.5\n", finished.out)
        self.assertNotIn("\x1b", finished.out)
        listed = self.harness("test_odd.py", "--list")
        self.assertEqual(len(listed.out.splitlines()), (len(NAMES) + 1) * len(CLASSES))

    def test_the_failed_ones_are_found_again(self):
        self.write("test_odd.py", ODD)
        self.harness("test_odd.py")
        finished = self.harness(
            "test_odd.py", "--rerun-failed", "--retries", "1", "--records", "records.json"
        )
        self.assertEqual(finished.last_line, "0 passed, 3 failed, 0 skipped")
        records = json.loads((self.folder / "records.json").read_text())["records"]
        tests = {record["test_id"] for record in records}
        self.assertEqual(tests, {f"test_odd.{cls}.test_fails\n1.5" for cls in CLASSES})

    def test_the_command_that_a_failure_gives_names_the_test(self):
        self.write("test_odd.py", ODD)
        name = "test_fails\n1.5"
        plain = self.harness("--no-history", f"test_odd.TestProcesses.{name}")
        self.assertEqual(plain.last_line, "0 passed, 1 failed, 0 skipped")
        place = f"test_odd.py::TestProcesses::{name}"
        by_pytest = self.run_command(sys.executable, "-m", "pytest", "-q", "test_odd.py")
        self.assertIn(f"python -m pytest '{place}'".splitlines()[0], by_pytest.out)
        again = self.run_command(sys.executable, "-m", "pytest", "-q", place)
        self.assertIn("1 failed", again.out)

    def test_an_id_with_a_scenario(self):
        self.write("test_scenarios.py", SCENARIOS)
        for way, finished in self.runs("test_scenarios"):
            with self.subTest(way):
                self.assertEqual(finished.code, 0, finished.out + finished.err)
        named = self.harness("--no-history", "test_scenarios.TestScenario.test_scenario")
        self.assertEqual(named.last_line, "1 passed, 0 failed, 0 skipped")


@unittest.skipUnless(importlib.util.find_spec("absl"), "absl-py is not installed")
class TestAbsl(CommandTestCase):
    runs = TestNames.runs

    def test_parameters(self):
        self.write("test_absl.py", ABSL)
        for way, finished in self.runs("test_absl"):
            with self.subTest(way):
                counts = {"unittest": "FAILED (failures=3)", "pytest": "3 failed, 9 passed"}
                counted = counts.get(way, "9 passed, 3 failed, 0 skipped")
                self.assertIn(counted, finished.out + finished.err)
                self.assertIn("'a.b' != 'c\\n'", finished.out + finished.err)

    def test_a_test_is_named_without_its_arguments(self):
        self.write("test_absl.py", ABSL)
        finished = self.harness("--no-history", "test_absl.TestThreads.test_plus1")
        self.assertEqual(finished.last_line, "1 passed, 0 failed, 0 skipped")
        self.assertIn("test_absl.TestThreads .\n", finished.out)
