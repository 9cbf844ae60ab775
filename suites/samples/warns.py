"""Tests whose ranks warn."""

from __future__ import annotations

import os
import warnings

from hypothesis import given, settings
from hypothesis import strategies as st

from harness import (
    MultiProcContinuousTest,
    MultiProcessTestCase,
    MultiThreadedTestCase,
    isolation,
)


class OwnWarning(UserWarning):
    """A category of the test module."""


class OddWarning(UserWarning):
    """A category that is not made of a text."""

    def __init__(self, number, reason):
        super().__init__(f"{reason} {number}")


def warn(*args, **kwargs):
    warnings.warn(*args, **kwargs)


class Bodies:
    world_size = 2

    def test_all_ranks(self):
        warn("all of us", FutureWarning)

    def test_one_rank(self):
        if self.rank == 1:
            warn("me alone", OwnWarning)

    def test_many_times(self):
        for _ in range(1000):
            warn("again", DeprecationWarning)

    def test_odd_category(self):
        warn(OddWarning(3, "odd"))

    def test_category_of_this_function(self):
        warn("local", type("LocalWarning", (UserWarning,), {}))

    def test_flood(self):
        for number in range(100_000):
            warn(f"number {number}")

    def test_recorded(self):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            warn("kept here")
        self.assertEqual(len(caught), 1)
        with self.assertWarns(UserWarning):
            warn("expected")

    def test_shown_all_the_same(self):
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warn("shown")

    def test_leaves_a_filter(self):
        warnings.simplefilter("ignore")

    def test_warns_and_dies(self):
        warn("last words")
        os._exit(3)

    @settings(max_examples=5)
    @given(x=st.integers())
    def test_examples(self, x):
        warn("example")


class Processes(Bodies, MultiProcessTestCase):
    pass


@isolation("group")
class Staying(Bodies, MultiProcessTestCase):
    pass


class Continuous(Bodies, MultiProcContinuousTest):
    @classmethod
    def backend_str(cls):
        return "gloo"


class Threads(Bodies, MultiThreadedTestCase):
    pass


def warn_and_return():
    warn("in a function", OwnWarning)
    return 1
