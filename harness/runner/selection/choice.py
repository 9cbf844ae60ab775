"""Choose the tests that run, their order, and how often each runs."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from harness.model import settings
from harness.model.clock import Deadline
from harness.runner.history.history import History
from harness.runner.options import Options
from harness.runner.selection.planned_test import PlannedTest
from harness.runner.selection.pytorch_lists import TestLists
from harness.runner.selection.sharding import plan_of, shard
from harness.runner.workers.schedule import Item


@dataclass
class Choice:
    """The tests of a run.

    Attributes:
        tests: all tests of the report, in its order.
        skipped: the tests that one of PyTorch's lists skips: place, test, reason.
        durations: test id to expected seconds.
        remarks: lines for the user about the choice.
        shard_plan: identifies the plan of the shards; empty without shards.
    """

    tests: list[PlannedTest]
    skipped: list[tuple[int, PlannedTest, str]] = field(default_factory=list)
    durations: Mapping[str, float] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    shard_plan: str = ""

    @property
    def placed(self) -> list[Placed]:
        """The tests that run, each with its place in the report."""
        left_out = {place for place, _, _ in self.skipped}
        return [(i, test) for i, test in enumerate(self.tests) if i not in left_out]


def choose(
    tests: Sequence[PlannedTest], options: Options, lists: TestLists, history: History | None
) -> Choice:
    """Apply the options about past failures, shards and order, and PyTorch's lists.

    The order of the steps matters. A shard is a part of the tests that are left after
    --rerun-failed. The lists come last and only mark tests as skipped, so that every skip has a
    place in the report.
    """
    choice = Choice(list(tests), durations=history.durations() if history else {})
    if options.rerun_failed or options.failed_first:
        _prefer_failed(choice, options, history.last_failed() if history else [])
    if options.shard is not None:
        known = history.shard_durations() if history else {}
        _take_shard(choice, known, *options.shard)
    if options.shuffle:
        seed = settings.SEED.value()
        choice.tests = shuffled(choice.tests, seed)
        choice.remarks.append(f"shuffled with --seed {seed}")
    for place, test in enumerate(choice.tests):
        reason = lists.skip_reason(test.test_id, test.is_slow)
        if reason is not None:
            choice.skipped.append((place, test, reason))
    return choice


def _prefer_failed(choice: Choice, options: Options, failed: Sequence[str]) -> None:
    names = set(failed)
    first = [test for test in choice.tests if test.key in names]
    rest = [test for test in choice.tests if test.key not in names]
    choice.tests = first if options.rerun_failed else [*first, *rest]
    if options.rerun_failed:
        counted = f"{len(first)} of {len(first) + len(rest)}"
        choice.remarks.append(f"{counted} tests failed when they ran last")


def _take_shard(choice: Choice, known: Mapping[str, float], number: int, count: int) -> None:
    costs = [(test.key, known.get(test.key)) for test in choice.tests]
    choice.shard_plan = plan_of(costs, count)
    # By key: tests with equal ids have different keys, and each belongs to one shard.
    kept = set(shard(costs, number, count))
    choice.tests = [test for test in choice.tests if test.key in kept]
    choice.remarks.append(
        f"shard {number}/{count}: {len(choice.tests)} of {len(costs)} tests "
        f"(plan {choice.shard_plan}, the same for all shards)"
    )


def shuffled(tests: Sequence[PlannedTest], seed: int) -> list[PlannedTest]:
    """Return the tests in random order, which depends only on the seed and the tests."""
    # Sort first: the order of discovery depends on the order of names on the command line.
    order = sorted(tests, key=lambda test: (test.test_id, test.copy))
    random.Random(seed).shuffle(order)
    return order


#: A test and its place in the report.
Placed = tuple[int, PlannedTest]


def rounds(tests: Sequence[Placed], repeat: int, stress: Deadline | None) -> Iterator[list[Item]]:
    """Yield the items of each repetition as a list.

    Args:
        tests: the tests that run, in the order of the report.
        repeat: the number of repetitions.
        stress: repeat until this deadline instead; at least once.
    """
    for number in itertools.count(1):
        enough = number > repeat if stress is None else number > 1 and stress.expired
        if enough:
            return
        yield [Item(place, test, number) for place, test in tests]
