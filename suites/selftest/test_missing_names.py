"""What setUp, setUpClass, setUpModule or a fixture has set is not in ranks: the failure says so."""

from __future__ import annotations

import re
import sys

from suites.selftest.support import CommandTestCase

TESTS = """
import pytest

from harness import MultiProcContinuousTest, MultiProcessTestCase, MultiThreadedTestCase


def setUpModule():
    global TABLE
    TABLE = [1, 2]


def table():
    return TABLE


class Body:
    world_size = 2

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.model = 1

    def setUp(self):
        super().setUp()
        self.data = 2
        setattr(self, "hidden", 3)

    @pytest.fixture(autouse=True)
    def fixture(self, request):
        self.fixed = 4
        request.cls.of_class = 5

    def test_data(self):
        self.data

    def test_model(self):
        self.model

    def test_class(self):
        type(self).model

    def test_hidden(self):
        self.hidden

    def test_module(self):
        table()

    def test_subtests(self):
        with self.subTest("first"):
            self.data


class TestProcesses(Body, MultiProcessTestCase):
    def test_fixture(self):
        self.fixed

    def test_fixture_of_class(self):
        self.of_class

    def test_nowhere(self):
        self.nowhere

    def test_of_another_object(self):
        object().data


class TestStaying(Body, MultiProcContinuousTest):
    pass


class TestThreads(Body, MultiThreadedTestCase):
    pass
"""
IN_BODY = {
    "test_data": "self.data exists in the test's own process, where setUp (test_it.py:23) set it",
    "test_model": "self.model exists in the test's own process, where setUpClass (test_it.py:18)",
    "test_class": "cls.model exists in the test's own process, where setUpClass (test_it.py:18)",
    "test_hidden": "self.hidden exists in the test's own process, but not in the ranks",
    "test_module": "the variable TABLE of module test_it exists in the test's own process, where "
    "setUpModule (test_it.py:6) set it",
    "test_subtests": "self.data exists in",
}
IN_PYTEST = {
    "test_fixture": "self.fixed exists in the test's own process, where fixture (test_it.py:28)",
    "test_fixture_of_class": "self.of_class exists in the test's own process, where fixture (",
}


class TestHints(CommandTestCase):
    def setUp(self):
        super().setUp()
        self.write("test_it.py", TESTS)

    def told(self, text, rule):
        """The reports of failed tests, by class and test."""
        parts = re.split(rule, text)
        return {(parts[i + 1], parts[i]): parts[i + 2] for i in range(1, len(parts) - 2, 3)}

    def assert_hints(self, reports, expected, classes):
        for name, hint in expected.items():
            for cls in classes:
                report = reports[cls, name]
                with self.subTest(name, cls=cls):
                    self.assertIn("hint: " + hint, report)
                    self.assertIn("Set it in perRankSetUp(), which runs in every rank, or", report)
                    where = "at module level" if name == "test_module" else "in the class body"
                    self.assertIn(f"every rank, or {where}.", report)
                    error = "NameError: name" if name == "test_module" else "AttributeError: "
                    self.assertIn(error, report)
                    self.assertIn("Traceback (most recent call last):", report)

    def test_by_unittest_and_the_runner(self):
        header = r"ERROR: (\w+) \(test_it\.(\w+)[.)]"
        unittest = self.run_command(sys.executable, "-m", "unittest", "test_it")
        reports = self.told(unittest.err, header)
        self.assertEqual(len(reports), 6 + 6 + 4, unittest.err)
        self.assert_hints(reports, IN_BODY, ["TestProcesses", "TestStaying"])
        for name in ("test_nowhere", "test_of_another_object", "test_fixture"):
            self.assertNotIn("hint:", reports["TestProcesses", name])
        for jobs in ("0", "1", "4"):
            finished = self.harness("test_it.py", "-j", jobs, "--no-history")
            self.assertEqual(finished.out.count("\nhint: "), 12, finished.out)
            self.assertEqual(finished.last_line, "6 passed, 16 failed, 0 skipped")

    def test_by_pytest(self):
        finished = self.run_command(
            sys.executable, "-m", "pytest", "-q", "test_it.py", "-k", "TestProcesses"
        )
        reports = self.told(finished.out.replace("TestProcesses.", ""), r"_ ()(test_\w+) _")
        by_test = {
            # A sub-test's title has another form, and ends the report before it.
            ("TestProcesses", name): text.partition("\n____")[0]
            for (name, _), text in ((key, text.lstrip("_ \n")) for key, text in reports.items())
        }
        # pytest's title of a sub-test says more than its name.
        expected = {**IN_BODY, **IN_PYTEST}
        del expected["test_subtests"]
        self.assert_hints(by_test, expected, ["TestProcesses"])
        for name in ("test_nowhere", "test_of_another_object"):
            self.assertNotIn("hint:", by_test["TestProcesses", name])
