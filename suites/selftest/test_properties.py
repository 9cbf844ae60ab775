"""Tests under `@given` over ranks: every rank draws the same, and whatever goes wrong shrinks."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
import unittest
import warnings
from pathlib import Path
from unittest import mock

import hypothesis
from hypothesis.internal.reflection import function_digest
from hypothesis.statistics import collector

from harness import StateLeakWarning, WorldExitWarning
from harness.cases.properties.example_budget import ExampleBudget
from harness.cases.properties.property_tests import PropertyTest
from harness.model.errors import ExampleValueError
from harness.ranks.child.given_body import explicitly, layer_of
from harness.ranks.example_values import pack, unpack
from harness.ranks.pool import pool
from suites.samples import properties
from suites.selftest.support import CommandTestCase, InProcess, run_case

# On a machine that is busy, a minute may not do to make an example as small as can be.
DEV = {"CI": "", "HARNESS_DEADLOCK_AFTER": "0.5", "HARNESS_SHRINK_TIMEOUT": "900"}


class Properties(InProcess):
    def setUp(self):
        super().setUp()
        self.addCleanup(pool().close)
        self.enter(mock.patch.dict(os.environ, DEV))

    def recorded(self, cls, method, **env):
        """Run a sample that must pass; returns what each rank has recorded."""
        texts = self.passes(cls, method, **env)
        return [[json.loads(line) for line in text.splitlines()] for text in texts]

    def fails(self, cls, method, status, **env):
        """Run a sample that must not pass; returns the text of the report."""
        with mock.patch.dict(os.environ, {"SAMPLE_OUT": self.out, **env}):
            result = run_case(cls, method)
        self.assertEqual(result.status, status, result.text)
        self.assertEqual(len(result.titles), 0 if status == "skipped" else 1, result.titles)
        return result.text


class TestDraws(Properties):
    def test_every_example_on_every_rank_with_equal_draws(self):
        for cls in (properties.Fresh, properties.Continuous, properties.Threads):
            with self.subTest(cls.__name__):
                first, *others = self.recorded(cls, "test_equal_draws")
                self.assertGreaterEqual(len(first), 40)
                self.assertEqual(len(others), 1)
                for other in others:
                    if cls is properties.Continuous:
                        first, other = ([values for values, _ in each] for each in (first, other))
                    self.assertEqual(other, first)
                self.assertGreater(len({json.dumps(values) for values in first}), 20)

    def test_the_body_is_in_a_test_of_hypothesis(self):
        ranks = self.recorded(properties.Fresh, "test_equal_draws")
        self.assertTrue(all(within for rank in ranks for _, _, within in rank))

    def test_ranks_stay_for_all_examples(self):
        for isolation in ("process", "group", "none"):
            with self.subTest(isolation):
                ranks = self.recorded(properties.Fresh, "test_process", HARNESS_ISOLATION=isolation)
                self.assertEqual([len(set(pids)) for pids in ranks], [1, 1])

    def test_worlds_are_handed_on(self):
        first = self.recorded(properties.Continuous, "test_equal_draws")
        after = self.recorded(properties.Continuous, "test_after")
        self.assertEqual([rank[0][1] for rank in first], [rank[0] for rank in after])
        again = self.recorded(properties.Continuous, "test_equal_draws")
        self.assertEqual([rank[0][1] for rank in again], [rank[0] for rank in after])

    def test_every_example_has_the_seed(self):
        first, second = self.recorded(properties.Fresh, "test_seeds")
        self.assertEqual(len({json.dumps(drawn) for drawn in first}), 1)
        self.assertEqual(first, second)

    def test_spawned_ranks(self):
        ranks = self.recorded(properties.Fresh, "test_equal_draws", HARNESS_START_METHOD="spawn")
        self.assertEqual(ranks[0], ranks[1])

    def test_other_ways_to_a_group(self):
        self.passes(properties.Fresh, "test_by_file")
        self.assertEqual(set(self.recorded(properties.BaseCPU, "test_sum_cpu")[1]), {"cpu"})

    def test_large_values(self):
        self.passes(properties.Fresh, "test_large_values")

    def test_thread_ranks_have_values_of_their_own(self):
        self.passes(properties.Threads, "test_values_of_its_own")

    def test_ranks_out_of_step_get_a_new_group(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.passes(properties.Continuous, "test_out_of_step")

    def test_no_rank_leaves_a_group_that_a_peer_still_brings_up(self):
        for isolation in ("group", "none"):
            with self.subTest(isolation), warnings.catch_warnings():
                warnings.simplefilter("error", StateLeakWarning)  # nor leaves it to the next one
                self.passes(properties.Continuous, "test_short", HARNESS_ISOLATION=isolation)

    def test_what_the_first_example_leaves_is_seen_after_the_last(self):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self.passes(properties.Continuous, "test_leaves")
        (told,) = [str(w.message) for w in caught if w.category is StateLeakWarning]
        self.assertIn("environment variable LEFT: by an example left behind", told)

    def test_the_same_twice(self):
        """Hypothesis takes two instances of a class for two users of one test."""
        for _ in range(2):
            self.passes(properties.Controls, "test_assume")


class TestDecorators(Properties):
    def test_around_given_they_are_called_in_every_rank(self):
        ranks = self.recorded(properties.Decorated, "test_around")
        self.assertEqual([set(rank) for rank in ranks], [{"around"}] * 2)
        self.assertGreater(len(ranks[0]), 5)

    def test_parameters(self):
        for factor in (2, 3):
            ranks = self.recorded(properties.Decorated, f"test_factor_factor_{factor}")
            self.assertEqual([set(rank) for rank in ranks], [{factor}] * 2)
        ranks = self.recorded(properties.Decorated, "test_device_cpu")
        self.assertEqual([set(rank) for rank in ranks], [{"cpu"}] * 2)

    def test_world_sizes(self):
        for size in (1, 3, 4):
            ranks = self.recorded(properties.Decorated, f"test_sizes_world_size_{size}")
            self.assertEqual([set(rank) for rank in ranks], [{size}] * size)

    def test_marks_under_given_count(self):
        self.assertEqual(len(self.recorded(properties.Decorated, "test_size_below")), 3)
        marked = properties.Decorated.test_marks_below
        self.assertEqual(marked._harness_timeout_s, 33.0)
        self.recorded(properties.Decorated, "test_marks_below")

    def test_what_given_made_is_found_under_all(self):
        for name in ("test_around", "test_factor_factor_2", "test_sizes_world_size_3"):
            layer = layer_of(getattr(properties.Decorated, name))
            self.assertIn(layer.__name__, name)
            self.assertFalse(hasattr(layer, "__wrapped__"))

    def test_everything_is_put_back(self):
        method = properties.Fresh.test_process
        layer, body = layer_of(method), method.hypothesis.inner_test
        before = dict(vars(layer))
        with explicitly(method, body):
            self.assertIsNot(method.hypothesis.inner_test, body)
        self.passes(properties.Fresh, "test_process")
        after = {k: v for k, v in vars(layer).items() if not k.endswith("generated_seed")}
        self.assertEqual(after, {k: v for k, v in before.items() if k in after})
        self.assertIs(method.hypothesis.inner_test, body)


class TestExpecting(Properties):
    """Decorators above `@given` are called in every rank around each example."""

    CLASSES = (properties.ExpectingInProcesses, properties.ExpectingInThreads)

    def test_what_they_swallow_is_swallowed(self):
        for cls in self.CLASSES:
            with self.subTest(cls.__name__):
                first, second = self.recorded(cls, "test_always")
                self.assertEqual(sorted(first), sorted(second))
                self.assertEqual(len(first), 10)

    def test_what_they_raise_is_raised(self):
        for cls in self.CLASSES:
            with self.subTest(cls.__name__):
                text = self.fails(cls, "test_not_from_ten_on", "failed")
                self.assertIn("AssertionError: ValueError not raised", text)
                self.assertIn("number=10,", text)
                text = self.fails(cls, "test_another_message", "failed")
                self.assertIn(""""^as expected$" does not match "other than expected: 0""", text)

    def test_nothing_is_expected_of_an_example_that_is_rejected(self):
        for cls in self.CLASSES:
            with self.subTest(cls.__name__):
                first, second = self.recorded(cls, "test_assumes")
                self.assertEqual(first, second)
                self.assertEqual(len(first), 10)

    def test_they_may_call_the_body_again(self):
        for cls in self.CLASSES:
            with self.subTest(cls.__name__):
                first, second = self.recorded(cls, "test_second_try")
                self.assertEqual(first, second)
                self.assertEqual([tries for tries, _ in first], [1, 2] * 10)
                text = self.fails(cls, "test_second_try_fails", "error")
                self.assertIn("ConnectionError: failed for 0", text)

    def test_something_is_done_to_a_rank(self):
        for cls in (properties.Hit, properties.HitAndReused):
            for method in ("killed", "killed_below", "stopped", "delayed", "assumes"):
                with self.subTest(cls.__name__, method=method):
                    first, second = self.recorded(cls, f"test_{method}", HARNESS_LEAKS="error")
                    self.assertEqual(first, second)
                    self.assertEqual(len(first), 3)

    def test_something_is_not_done_to_a_rank(self):
        text = self.fails(properties.Hit, "test_never", "error")
        self.assertIn("ChaosError: rank 1", text)
        self.assertIn("number=10,", text)


class TestNested(Properties):
    """A body that calls a function under `@given` has an engine in every rank for it."""

    CLASSES = (properties.NestedInProcesses, properties.NestedInThreads)

    def test_every_rank_draws(self):
        for cls in self.CLASSES:
            with self.subTest(cls.__name__):
                first, second = self.recorded(cls, "test_nested")
                self.assertEqual(first, second)
                self.assertEqual(len(first), 2 * 7)
                self.assertEqual([2 * number for number in first[:7]], first[7:])
                self.assertTrue(all(number % 3 == 0 for number in first))
                for rank in self.recorded(cls, "test_plain"):
                    self.assertEqual(len(rank), 7)

    def test_settings_are_taken_over_from_the_outer_test(self):
        for cls in self.CLASSES:
            with self.subTest(cls.__name__):
                for rank in self.recorded(cls, "test_nested_takes_over_settings"):
                    self.assertEqual(len(rank), 2 * 2)

    def test_what_is_wrong_with_it_is_wrong_with_the_test(self):
        for cls in self.CLASSES:
            with self.subTest(cls.__name__):
                text = self.fails(cls, "test_nested_fails", "failed")
                self.assertIn("2 of 2 ranks failed", text)
                self.assertIn("AssertionError: 10 not less than 10 : the inner property", text)
                self.assertIn("inner(\n        number=10,", text)
                text = self.fails(cls, "test_plain_fails", "failed")
                # Rank 0 draws all of its examples, and may still be at it.
                self.assertIn("1 of 2 ranks failed (rank 0 ", text)
                self.assertIn("the inner property is wrong", text)

    def test_it_may_skip_the_test(self):
        for cls in self.CLASSES:
            with self.subTest(cls.__name__):
                self.assertIn("not today", self.fails(cls, "test_nested_skips", "skipped"))


class TestControls(Properties):
    def test_assume_and_reject(self):
        first, second = self.recorded(properties.Controls, "test_assume")
        self.assertEqual(first, second)
        self.assertTrue(all(number % 2 for number in first))
        self.assertGreaterEqual(sum(1 for number in first if number % 3), 20)

    def test_an_assumption_on_some_ranks_alone(self):
        for cls in (properties.Controls, properties.Threads):
            with self.subTest(cls.__name__):
                text = self.fails(cls, "test_assumes_alone", "error")
                self.assertIn("harness.RanksDisagreeError", text)
                self.assertRegex(text, r"rank 1: .*the example is rejected: failed to satisfy")
                self.assertIn("number=10,", text)

    def test_nothing_satisfies(self):
        text = self.fails(properties.Controls, "test_never_satisfied", "error")
        self.assertIn("FailedHealthCheck", text)

    def test_notes(self):
        text = self.fails(properties.Controls, "test_notes", "failed")
        lines = [line for line in text.splitlines() if line.startswith("rank ")]
        said = ["rank 0: the number is 10", "rank 0: on 0", "rank 1: the number is 10"]
        self.assertEqual(lines[:3], said)
        self.assertEqual(text.count("the number is"), 2)

    def test_events_and_targets(self):
        told = []
        with collector.with_value(told.append):
            self.passes_quietly(properties.Controls, "test_events")
            self.passes_quietly(properties.Controls, "test_target")
        events = {e for case in told[0]["generate-phase"]["test-cases"] for e in case["events"]}
        self.assertEqual({e.partition(":")[0] for e in events}, {"even", "odd", "rank"})
        self.assertGreater(told[1]["targets"]["size"], 9000)

    def passes_quietly(self, cls, method):
        result = run_case(cls, method)
        self.assertEqual(result.status, "passed", result.text)

    def test_examples(self):
        self.assertEqual(self.recorded(properties.Controls, "test_example"), [[7, 0]] * 2)
        self.assertIn(
            "Failing explicit example: test_example_fails(\n    number=7,\n)",
            self.fails(properties.Controls, "test_example_fails", "failed"),
        )
        self.passes_quietly(properties.Controls, "test_xfail")

    def test_seed(self):
        first = self.recorded(properties.Controls, "test_seed")
        self.assertEqual(self.recorded(properties.Controls, "test_seed"), first)
        self.assertEqual(first[0], first[1])

    def test_skips(self):
        self.assertIn("not today", self.fails(properties.Controls, "test_skips", "skipped"))
        text = self.fails(properties.Controls, "test_skips_alone", "error")
        self.assertIn("harness.RanksDisagreeError", text)

    def test_subtests(self):
        text = self.fails(properties.Controls, "test_subtests", "failed")
        self.assertIn("sub-test (part=1)", text)
        self.assertIn("number=11,", text)

    def test_expected_failures(self):
        text = self.fails_as_expected("test_expected_failure")
        self.assertIn("number=10,", text)
        text = self.fails(properties.Controls, "test_no_expected_crash", "error")
        self.assertIn("number=11,", text)

    def fails_as_expected(self, method):
        result = run_case(properties.Controls, method)
        self.assertEqual(result.status, "expected failure", result.text)
        return result.text

    def test_a_body_that_returns_something(self):
        text = self.fails(properties.Controls, "test_returns", "error")
        self.assertIn("test_returns returned", text)

    def test_a_body_that_exits(self):
        text = self.fails(properties.Controls, "test_exits", "error")
        self.assertIn("1 of 2 ranks exited with code 3", text)
        self.assertIn("number=11,", text)


class TestFindings(Properties):
    def test_a_wrong_value_on_one_rank(self):
        for cls in (properties.Fresh, properties.Continuous, properties.Threads):
            with self.subTest(cls.__name__):
                text = self.fails(cls, "test_wrong", "failed")
                self.assertIn("values=[0, 0, 0],", text)
                self.assertIn("1 of 2 ranks failed (rank 0 passed)", text)
                self.assertEqual(text.count("Failing test case"), 1)
                self.assertIn("@reproduce_failure", text)
                self.assertIn("again: ", text)

    def test_a_planted_bug_in_each_of_its_guises(self):
        for bug, status, what in (
            ("value", "failed", "1 of 2 ranks failed (rank 0 passed)"),
            ("crash", "error", "1 of 2 ranks killed by SIGSEGV (rank 0 "),
            ("deadlock", "error", "2 of 2 ranks deadlocked"),
            ("hang", "error", "2 of 2 ranks had not finished after"),
        ):
            with self.subTest(bug):
                text = self.fails(properties.Planted, f"test_{bug}", status)
                self.assertIn(what, text)
                self.assertRegex(text, r"dtype=torch.float16,\n    values=\[0, 0, 0\],")
                self.assertEqual(text.count("Failing test case"), 1)
                self.assertRegex(text, r"properties.py:\d+ in sum_of|in check\n.*sum_of")

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
            ("test_data", "the argument data holds a DataObject of Hypothesis's"),
            ("test_random", "the argument pair holds a "),
            ("test_function", "the argument function cannot be sent to the ranks"),
        ):
            with self.subTest(method):
                text = self.fails(properties.Refused, method, "error")
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
                before = self.recorded(properties.Unfinished, "test_next")
                text = self.fails(properties.Unfinished, method, status)
                self.assertIn(words, text)
                after = self.recorded(properties.Unfinished, "test_next")
                self.assertNotEqual(after, before)
                # The ranks have left by themselves, as soon as they were told to.
                self.assertEqual([str(w.message) for w in caught], [])

    def test_nor_is_the_next_property_test(self):
        before = self.recorded(properties.Unfinished, "test_next_with_examples")
        self.fails(properties.Unfinished, "test_never_satisfied", "error")
        after = self.recorded(properties.Unfinished, "test_next_with_examples")
        self.assertNotEqual(after, before)

    def test_an_interrupt_leaves_no_ranks_that_wait_for_an_example(self):
        before = self.recorded(properties.Unfinished, "test_next")
        interrupted = mock.patch.object(PropertyTest, "_run_example", side_effect=KeyboardInterrupt)
        with interrupted, self.assertRaises(KeyboardInterrupt):
            self.recorded(properties.Unfinished, "test_next_with_examples")
        self.assertNotEqual(self.recorded(properties.Unfinished, "test_next"), before)


class TestBudget(unittest.TestCase):
    def test_after_a_hang_less_time(self):
        budget = ExampleBudget(300.0, 1.0, 600.0, 60.0)
        budget.ended(0.1)
        self.assertEqual((budget.example_s, budget.deadlock_s), (300.0, 1.0))
        budget.failed(hung=False)
        self.assertEqual((budget.example_s, budget.is_shortened), (300.0, False))
        budget.failed(hung=True)
        self.assertEqual((budget.example_s, budget.deadlock_s), (2.0, 0.2))
        self.assertTrue(budget.is_shortened)
        budget.ended(50.0)
        self.assertEqual(budget.example_s, 300.0)

    def test_deadlocks_that_are_not_looked_for(self):
        budget = ExampleBudget(300.0, 0.0, 600.0, 60.0)
        budget.failed(hung=True)
        self.assertEqual(budget.deadlock_s, 0.0)

    def test_used_up(self):
        budget = ExampleBudget(1.0, 1.0, 600.0, 60.0)
        self.assertFalse(budget.is_used_up)
        budget.use_up()
        self.assertTrue(budget.is_used_up)


class TestValues(unittest.TestCase):
    def test_there_and_back(self):
        values = {"a": [1, 2.5, None], "b": {"x": (1,)}}
        self.assertEqual(unpack(pack(values, "test")), values)

    def test_the_argument_is_named(self):
        with self.assertRaisesRegex(ExampleValueError, "test_it: the argument b cannot be sent"):
            pack({"a": 1, "b": lambda: 1}, "test_it")


class TestIdentity(Properties):
    def test_examples_are_kept_under_the_bodys_own_name(self):
        """What stands in the body's place must have its digest: the database's key."""
        folder = self.enter(tempfile.TemporaryDirectory(prefix="selftest "))
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


SUITE = """
    import os, torch, torch.distributed as dist
    from hypothesis import given, settings, strategies as st, reproduce_failure, seed
    from harness import MultiProcessTestCase

    class TestIt(MultiProcessTestCase):
        world_size = 2

        {decorator}
        @settings(max_examples=100)
        @given(values=st.lists(st.integers(-9, 9), min_size=1))
        def test_it(self, values):
            self.init_process_group()
            x = torch.tensor(values)
            dist.all_reduce(x)
            if self.rank == 1 and len(values) >= 3:
                x += 1
            self.assertEqual(x, 2 * torch.tensor(values))
"""


class TestWaysIn(CommandTestCase):
    """Slow: whole commands."""

    def test_reproduce(self):
        self.write("test_it.py", SUITE.format(decorator=""))
        finished = self.harness("test_it")
        self.assertEqual(finished.last_line, "0 passed, 1 failed, 0 skipped", finished.out)
        self.assertEqual(finished.out.count("values=[0, 0, 0],"), 1)
        (blob,) = re.findall(r"adding (@reproduce_failure\(.*\)) as", finished.out)
        self.assert_clean(finished)
        self.write("test_it.py", SUITE.format(decorator=blob))
        for command in (
            ("-m", "harness", "test_it"),
            ("-m", "unittest", "test_it"),
            ("-m", "pytest", "-q", "test_it.py"),
        ):
            with self.subTest(command[1]):
                finished = self.run_command(sys.executable, *command)
                self.assertEqual(finished.code, 1)
                text = finished.out + finished.err
                self.assertEqual(text.count("values=[0, 0, 0],"), 1, text)
                self.assertIn("1 of 2 ranks failed (rank 0 passed)", text)
                self.assert_clean(finished)

    def in_all_ways(self, module, *options):
        """Run a test file by the runner, unittest and pytest; returns code and output of each."""
        for command in (
            ("-m", "harness", "-j", "0", *options, f"{module}.py"),
            ("-m", "unittest", f"{module}.py"),
            ("-m", "pytest", "-q", f"{module}.py"),
        ):
            with self.subTest(command[1]):
                cache = str(self.sandbox.base / "cache")  # torch's own, which stays
                env = {"HARNESS_LEAKS": "error", "TORCHINDUCTOR_CACHE_DIR": cache}
                finished = self.run_command(sys.executable, *command, **env)
                self.assert_clean(finished)
                yield command[1], finished.code, finished.out + finished.err

    def test_a_plain_test_after_one_without_an_example(self):
        self.write(
            "test_it.py",
            """
            from hypothesis import assume, given
            from hypothesis import strategies as st

            from harness import MultiProcContinuousTest

            class TestGiven(MultiProcContinuousTest):
                world_size = 2

                @classmethod
                def backend_str(cls):
                    return "gloo"

                @given(st.integers())
                def test_a_never(self, n):
                    assume(False)

                def test_b_plain(self):
                    pass

                @given(st.integers())
                def test_c_never(self, n):
                    assume(False)

                @given(st.integers())
                def test_d_given(self, n):
                    pass
            """,
        )
        for way, code, text in self.in_all_ways("test_it", "--timeout", "4"):
            self.assertEqual(code, 1)
            self.assertNotIn("RanksTimedOutError", text)
            last = {
                "harness": "2 passed, 2 failed, 0 skipped",
                "unittest": "FAILED (errors=2)",
                "pytest": "2 failed, 2 passed",
            }
            self.assertIn(last[way], text)

    def test_nested(self):
        self.write(
            "test_it.py",
            """
            from hypothesis import given, settings
            from hypothesis import strategies as st

            from harness import MultiProcessTestCase

            class TestNested(MultiProcessTestCase):
                world_size = 2

                @settings(max_examples=2)
                @given(st.booleans())
                def test_outer(self, x):
                    @given(st.booleans())
                    def inner(y):
                        raise AssertionError("the inner property is wrong")

                    inner()
            """,
        )
        for _, code, text in self.in_all_ways("test_it"):
            self.assertEqual(code, 1)
            self.assertIn("AssertionError: the inner property is wrong", text)

    def test_something_is_done_to_a_rank(self):
        self.write(
            "test_it.py",
            """
            import torch.distributed as dist
            from hypothesis import given, settings
            from hypothesis import strategies as st

            from harness import (
                MultiProcContinuousTest, MultiProcessTestCase, kill_rank, stop_rank
            )

            class TestReused(MultiProcContinuousTest):
                world_size = 2

                @classmethod
                def backend_str(cls):
                    return "gloo"

                @kill_rank(1, at=1, survivors_raise=RuntimeError)
                def test_kill(self):
                    dist.barrier()

                @stop_rank(1, at=1)
                def test_stop(self):
                    if self.rank == 1:
                        dist.barrier()

            class TestAboveGiven(MultiProcessTestCase):
                world_size = 2

                @kill_rank(1, at=1, survivors_raise=RuntimeError)
                @given(st.integers())
                @settings(max_examples=3, deadline=None)
                def test_kill_given(self, n):
                    self.init_process_group()
                    dist.barrier()
            """,
        )
        for _, code, text in self.in_all_ways("test_it"):
            self.assertEqual(code, 0, text)

    def test_pytest_and_its_seed(self):
        self.write("test_it.py", SUITE.format(decorator=""))
        command = ("-m", "pytest", "-q", "--hypothesis-seed=3", "test_it.py")
        finished = self.run_command(sys.executable, *command)
        self.assertEqual(finished.out.count("values=[0, 0, 0],"), 1, finished.out)
        self.assertIn("1 of 2 ranks failed (rank 0 passed)", finished.out)
        self.assertIn("1 failed", finished.out)
        self.assert_clean(finished)

    def test_without_hypothesis(self):
        """It is no dependency: nothing of the harness imports it by itself."""
        self.write("hypothesis.py", "raise ImportError('not here')")
        self.write(
            "test_it.py",
            """
            from harness import MultiProcessTestCase, MultiThreadedTestCase

            class TestIt(MultiProcessTestCase):
                world_size = 2
                def test_it(self):
                    self.init_process_group()

            class TestThreads(MultiThreadedTestCase):
                def test_it(self):
                    pass
            """,
        )
        finished = self.harness("test_it", PYTHONPATH=f"{Path.cwd()}")
        self.assertEqual(finished.last_line, "2 passed, 0 failed, 0 skipped", finished.out)


if __name__ == "__main__":
    unittest.main()
