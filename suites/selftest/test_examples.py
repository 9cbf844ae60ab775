"""Examples of property tests: how much time they get, and how their values reach the ranks."""

from __future__ import annotations

import unittest

from harness.cases.properties.example_budget import ExampleBudget
from harness.model.errors import ExampleValueError
from harness.ranks.example_values import pack, unpack


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
