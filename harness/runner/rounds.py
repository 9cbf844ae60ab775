"""From the selected tests to the items of a run: in which order, and how often."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence

from harness.model.clock import Deadline
from harness.runner.selection.planned_test import PlannedTest
from harness.runner.workers.schedule import Item


def shuffled(tests: Sequence[PlannedTest], seed: int) -> list[PlannedTest]:
    """The tests in another order, the same for the same seed and the same tests."""
    order = sorted(tests, key=lambda test: (test.test_id, test.copy))
    random.Random(seed).shuffle(order)
    return order


#: A test and its place in the report.
Placed = tuple[int, PlannedTest]


def rounds(tests: Sequence[Placed], repeat: int, stress: Deadline | None) -> Iterator[list[Item]]:
    """The items, a list for each repetition.

    Args:
        tests: those that are to run, in the order of the report.
        repeat: how many repetitions.
        stress: go on repeating until then instead; the first round is always there.
    """
    for number in itertools.count(1):
        enough = number > repeat if stress is None else number > 1 and stress.expired
        if enough:
            return
        yield [Item(place, test, number) for place, test in tests]
