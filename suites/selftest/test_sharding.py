"""Shards: every test once, the same parts on every machine, equal in cost."""

from __future__ import annotations

import random
import tempfile
import unittest
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from harness.runner.history.history import open_history
from harness.runner.results import RunResult, Status, TestRecord
from harness.runner.selection.sharding import plan_of, shard

NAMES = st.text("abc._", min_size=1, max_size=6)
COSTS = st.one_of(st.none(), st.floats(0, 1000), st.sampled_from([0.0, 1.0]))
TESTS = st.lists(st.tuples(NAMES, COSTS), max_size=40, unique_by=lambda test: test[0])
KNOWN = st.lists(
    st.tuples(NAMES, st.integers(0, 1000)), max_size=40, unique_by=lambda test: test[0]
)
COUNTS = st.integers(1, 7)


def shards(tests, n):
    return [shard(tests, k, n) for k in range(1, n + 1)]


def loads(tests, n):
    cost = dict(tests)
    return [sum(cost[test] for test in part) for part in shards(tests, n)]


def a_run(numbers):
    """300 tests as in a real suite: most take milliseconds, a few seconds; runs are not alike."""
    usual = random.Random(7)
    return [
        (
            f"suites.test_{i % 12}.Test.test_{i}",
            usual.lognormvariate(-2, 1.6) * numbers.uniform(0.8, 1.2),
        )
        for i in range(300)
    ]


class TestPartition(unittest.TestCase):
    @given(TESTS, COUNTS)
    def test_each_test_is_in_exactly_one_shard(self, tests, n):
        found = Counter(test for part in shards(tests, n) for test in part)
        self.assertEqual(found, Counter(test for test, _ in tests))

    @given(TESTS, COUNTS)
    def test_tests_come_back_in_the_order_in_which_they_came(self, tests, n):
        place = {test: i for i, (test, _) in enumerate(tests)}
        for part in shards(tests, n):
            self.assertEqual(part, sorted(part, key=place.__getitem__))

    @given(st.lists(st.tuples(NAMES, COSTS), max_size=20), COUNTS)
    def test_an_id_that_comes_twice_stays_together(self, tests, n):
        parts = [set(part) for part in shards(tests, n)]
        self.assertEqual(sum(len(part) for part in parts), len({test for test, _ in tests}))
        self.assertEqual(sum(len(shard(tests, k, n)) for k in range(1, n + 1)), len(tests))

    def test_more_shards_than_tests(self):
        self.assertEqual(sorted(map(len, shards([("a", 1.0), ("b", None)], 5))), [0, 0, 0, 1, 1])

    def test_far_more_shards_than_tests(self):
        """As many as a typing error makes: they cost no memory."""
        parts = [shard([("a", 1.0), ("b", None)], k, 10**12) for k in (1, 2, 3, 10**12)]
        self.assertEqual(parts, [["a"], ["b"], [], []])

    def test_no_tests(self):
        self.assertEqual(shards([], 3), [[], [], []])

    def test_a_shard_that_is_none(self):
        for k, n in ((0, 3), (4, 3), (-1, 3), (1, 0)):
            with self.assertRaisesRegex(ValueError, f"shard {k}/{n}: .* between 1 and {n}"):
                shard([("a", 1.0)], k, n)


class TestStability(unittest.TestCase):
    @given(TESTS, COUNTS, st.randoms(use_true_random=False))
    def test_the_order_of_the_tests_does_not_matter(self, tests, n, numbers):
        shuffled = list(tests)
        numbers.shuffle(shuffled)
        self.assertEqual(
            [set(part) for part in shards(tests, n)], [set(part) for part in shards(shuffled, n)]
        )
        self.assertEqual(plan_of(tests, n), plan_of(shuffled, n))

    def test_a_plan_has_a_name_of_its_own(self):
        tests = [("a", 1.0), ("b", 2.0), ("c", None)]
        others = [[("a", 1.0), ("b", 2.5), ("c", None)], tests[:2], [*tests, ("d", None)]]
        names = {plan_of(tests, 2), plan_of(tests, 3), *(plan_of(other, 2) for other in others)}
        self.assertEqual(len(names), 5)


class TestBalance(unittest.TestCase):
    @given(KNOWN, COUNTS)
    def test_shards_differ_by_one_test_at_most(self, tests, n):
        found = loads(tests, n)
        self.assertLessEqual(max(found) - min(found), max((c for _, c in tests), default=0))

    @given(st.sets(NAMES, max_size=40), st.sampled_from([None, 0.0, 0.1, 3.0]), COUNTS)
    def test_equal_or_unknown_costs_are_split_by_count(self, names, cost, n):
        sizes = [len(part) for part in shards([(name, cost) for name in names], n)]
        self.assertLessEqual(max(sizes) - min(sizes), 1)

    def test_a_recorded_suite_in_three_within_fifteen_percent(self):
        numbers = random.Random(11)
        with tempfile.TemporaryDirectory(prefix="selftest ") as folder:
            history = open_history(f"{folder}/history.sqlite")
            for _ in range(5):
                records = [TestRecord(t, Status.PASSED, seconds=s) for t, s in a_run(numbers)]
                history.record(RunResult(records), "c")
            known = history.durations()
        took = dict(a_run(numbers))
        parts = shards([(test, known.get(test)) for test in took], 3)
        self.assertEqual(sorted(test for part in parts for test in part), sorted(took))
        seconds = [sum(took[test] for test in part) for part in parts]
        self.assertLess(max(seconds) / min(seconds), 1.15)

    def test_an_unknown_test_counts_as_the_median_one(self):
        tests = [("a", 1.0), ("b", 4.0), ("c", 9.0), ("new", None)]
        self.assertEqual(shards(tests, 2), [["c"], ["a", "b", "new"]])

    def test_a_duration_that_is_no_number_counts_as_unknown(self):
        for bad in (float("nan"), float("inf"), -1.0):
            known = [("a", 1.0), ("b", 4.0), ("c", 9.0)]
            self.assertEqual(shards([*known, ("x", bad)], 2), shards([*known, ("x", None)], 2))

    def test_equal_costs_go_by_id(self):
        tests = [(name, 1.0) for name in "dbca"]
        self.assertEqual(shards(tests, 2), [["c", "a"], ["d", "b"]])
