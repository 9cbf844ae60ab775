"""Tests under `@given` over ranks: every rank draws the same, and whatever goes wrong shrinks."""

from __future__ import annotations

import json
import unittest
import warnings

from hypothesis.statistics import collector

from harness import StateLeakWarning
from harness.cases.properties.given_body import explicitly, layer_of
from suites.samples import properties, properties_decorated
from suites.selftest.property_runs import Properties
from suites.selftest.support import run_case


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
        ranks = self.recorded(properties_decorated.Decorated, "test_around")
        self.assertEqual([set(rank) for rank in ranks], [{"around"}] * 2)
        self.assertGreater(len(ranks[0]), 5)

    def test_parameters(self):
        for factor in (2, 3):
            ranks = self.recorded(properties_decorated.Decorated, f"test_factor_factor_{factor}")
            self.assertEqual([set(rank) for rank in ranks], [{factor}] * 2)
        ranks = self.recorded(properties_decorated.Decorated, "test_device_cpu")
        self.assertEqual([set(rank) for rank in ranks], [{"cpu"}] * 2)

    def test_world_sizes(self):
        for size in (1, 3, 4):
            ranks = self.recorded(properties_decorated.Decorated, f"test_sizes_world_size_{size}")
            self.assertEqual([set(rank) for rank in ranks], [{size}] * size)

    def test_marks_under_given_count(self):
        self.assertEqual(len(self.recorded(properties_decorated.Decorated, "test_size_below")), 3)
        marked = properties_decorated.Decorated.test_marks_below
        self.assertEqual(marked._harness_timeout_s, 33.0)
        self.recorded(properties_decorated.Decorated, "test_marks_below")

    def test_what_given_made_is_found_under_all(self):
        for name in ("test_around", "test_factor_factor_2", "test_sizes_world_size_3"):
            layer = layer_of(getattr(properties_decorated.Decorated, name))
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

    CLASSES = (properties_decorated.ExpectingInProcesses, properties_decorated.ExpectingInThreads)

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
        for cls in (properties_decorated.Hit, properties_decorated.HitAndReused):
            for method in ("killed", "killed_below", "stopped", "delayed", "assumes"):
                with self.subTest(cls.__name__, method=method):
                    first, second = self.recorded(cls, f"test_{method}", HARNESS_LEAKS="error")
                    self.assertEqual(first, second)
                    self.assertEqual(len(first), 3)

    def test_something_is_not_done_to_a_rank(self):
        text = self.fails(properties_decorated.Hit, "test_never", "error")
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


if __name__ == "__main__":
    unittest.main()
