"""Property tests that fail: the report, shrinking, time limits, and the test that comes next."""

from __future__ import annotations

import re
import warnings
from unittest import mock

import hypothesis
from hypothesis.internal.reflection import function_digest

from harness import WorldExitWarning
from harness.cases.properties.given_body import layer_of
from harness.cases.properties.property_tests import PropertyTest
from suites.samples import properties, properties_failing
from suites.selftest.property_runs import Properties
from suites.selftest.support import new_folder, run_case


class TestFindings(Properties):
    def test_a_wrong_value_on_one_rank(self):
        for cls in (properties.Fresh, properties.Continuous, properties.Threads):
            with self.subTest(cls.__name__):
                text = self.fails(cls, "test_wrong", "failed")
                self.assertIn("values=[0, 0, 0],", text)
                self.assertIn("1 of 2 ranks failed (rank 0 passed)", text)
                self.assertEqual(text.count("Failing test case"), 1)
                self.assertIn("@reproduce_failure", text)
                self.assertIn("rerun: ", text)

    def test_a_planted_bug_in_each_of_its_guises(self):
        for bug, status, what in (
            ("value", "failed", "1 of 2 ranks failed (rank 0 passed)"),
            ("crash", "error", "1 of 2 ranks killed by SIGSEGV (rank 0 "),
            ("deadlock", "error", "2 of 2 ranks deadlocked"),
            ("hang", "error", "2 of 2 ranks timed out after"),
        ):
            with self.subTest(bug):
                text = self.fails(properties_failing.Planted, f"test_{bug}", status)
                self.assertIn(what, text)
                self.assertRegex(text, r"dtype=torch.float16,\n    values=\[0, 0, 0\],")
                self.assertEqual(text.count("Failing test case"), 1)
                self.assertRegex(text, r"properties_failing.py:\d+ in sum_of|in check\n.*sum_of")

    def test_two_bugs(self):
        text = self.fails(properties.Controls, "test_two_bugs", "error")
        self.assertIn("Hypothesis found 2 different failures", text)
        self.assertIn("number=500,", text)
        self.assertIn("number=11,", text)
        self.assertIn("ValueError: more than ten", text)

    def test_a_failure_that_does_not_come_again(self):
        text = self.fails(properties.Controls, "test_flaky", "error")
        self.assertIn("harness.FlakyExampleError", text)
        self.assertIn("ValueError: the first time only", text)

    def test_what_ranks_print_in_the_failing_example(self):
        text = self.fails(properties.Controls, "test_prints", "failed")
        self.assertEqual(re.findall("said of .*", text), ["said of 10"] * 2)

    def test_values_that_ranks_cannot_be_given(self):
        for method, words in (
            ("test_data", "the argument data contains Hypothesis's DataObject"),
            ("test_random", "the argument pair contains "),
            ("test_function", "the argument function cannot be sent to the ranks"),
        ):
            with self.subTest(method):
                text = self.fails(properties_failing.Refused, method, "error")
                self.assertIn("harness.ExampleValueError: " + method, text)
                self.assertIn(words, text)
                self.assertNotIn("Failing test case", text)

    def test_time_for_all_examples(self):
        text = self.fails(
            properties.Fresh, "test_equal_draws", "error", HARNESS_PROPERTY_TIMEOUT="0.05"
        )
        self.assertIn("not all examples ran within 0.05 s; none of them failed", text)

    def test_time_for_shrinking(self):
        text = self.fails(properties.Fresh, "test_wrong", "failed", HARNESS_SHRINK_TIMEOUT="0.001")
        self.assertIn("there may be a smaller example; HARNESS_SHRINK_TIMEOUT", text)
        self.assertEqual(text.count("Failing test case"), 1)

    def test_the_next_test_finds_a_world(self):
        self.fails(properties.Continuous, "test_wrong", "failed")
        self.passes(properties.Continuous, "test_after")

    def test_the_next_test_is_not_given_ranks_that_wait_for_an_example(self):
        for method, status, words in (
            ("test_never_satisfied", "error", "FailedHealthCheck"),
            ("test_fails", "failed", "always"),
            ("test_bad_strategy", "error", "Cannot sample from a length-zero sequence"),
            ("test_deadline", "error", "DeadlineExceeded"),
            ("test_value_that_cannot_be_sent", "error", "cannot be sent to the ranks"),
            ("test_error_in_the_parent", "error", "ZeroDivisionError"),
        ):
            with self.subTest(method), warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", WorldExitWarning)
                before = self.recorded(properties_failing.Unfinished, "test_next")
                text = self.fails(properties_failing.Unfinished, method, status)
                self.assertIn(words, text)
                after = self.recorded(properties_failing.Unfinished, "test_next")
                self.assertNotEqual(after, before)
                # The ranks have left by themselves, as soon as they were told to.
                self.assertEqual([str(w.message) for w in caught], [])

    def test_nor_is_the_next_property_test(self):
        before = self.recorded(properties_failing.Unfinished, "test_next_with_examples")
        self.fails(properties_failing.Unfinished, "test_never_satisfied", "error")
        after = self.recorded(properties_failing.Unfinished, "test_next_with_examples")
        self.assertNotEqual(after, before)

    def test_an_interrupt_leaves_no_ranks_that_wait_for_an_example(self):
        before = self.recorded(properties_failing.Unfinished, "test_next")
        interrupted = mock.patch.object(PropertyTest, "_run_example", side_effect=KeyboardInterrupt)
        with interrupted, self.assertRaises(KeyboardInterrupt):
            self.recorded(properties_failing.Unfinished, "test_next_with_examples")
        self.assertNotEqual(self.recorded(properties_failing.Unfinished, "test_next"), before)


class TestIdentity(Properties):
    def test_examples_are_kept_under_the_bodys_own_name(self):
        """What stands in the body's place must have its digest: the database's key."""
        folder = new_folder(self)
        method = properties.Fresh.test_wrong
        layer = layer_of(method)
        before = layer._hypothesis_internal_use_settings
        database = hypothesis.database.DirectoryBasedExampleDatabase(folder)
        layer._hypothesis_internal_use_settings = hypothesis.settings(before, database=database)
        try:
            self.assertEqual(run_case(properties.Fresh, "test_wrong").status, "failed")
        finally:
            layer._hypothesis_internal_use_settings = before
        key = function_digest(method.hypothesis.inner_test)
        self.assertEqual(len(list(database.fetch(key))), 1)
