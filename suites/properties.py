"""What the property suites share: collectives in a drawn group of ranks, and how values compare."""

from __future__ import annotations

import unittest
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import MultiProcessTestCase, strategies

WORLD_SIZE = 4

#: Twice what the profile in force says, so 20 by default: an example is a few milliseconds here.
EXAMPLES = settings(max_examples=2 * settings().max_examples)


def accept_deprecations(case: unittest.TestCase) -> None:
    """Do not warn of functions that torch 2.13 deprecates; they are under test."""
    filters = warnings.catch_warnings()
    filters.__enter__()
    case.addCleanup(filters.__exit__, None, None, None)
    warnings.filterwarnings("ignore", r"`?torch\.distributed\..*deprecated", FutureWarning)


class Group(NamedTuple):
    """The process group of a test, as one of its ranks sees it.

    Attributes:
        ranks: their ranks in the world.
        index: this rank's rank in the group.
        handle: what torch calls the group; None for all ranks of the world.
    """

    ranks: tuple[int, ...]
    index: int
    handle: Any

    @property
    def size(self) -> int:
        return len(self.ranks)


def in_group(**strategies_of_size: Callable[[int], Any]) -> Callable[[Any], Any]:
    """Give a test a process group of one to four of four ranks, and values drawn for its size.

    The test runs on the ranks of the group alone, as `test(self, group, **values)`. A group is one
    of the values that Hypothesis makes smaller, so that a failure shows how few ranks it takes.

    Args:
        strategies_of_size: for each argument a function from the size of the group to a strategy.
    """

    def values_for(ranks):
        drawn = {name: make(len(ranks)) for name, make in strategies_of_size.items()}
        return st.fixed_dictionaries({"ranks": st.just(ranks), **drawn})

    cases = strategies.groups(WORLD_SIZE).flatmap(values_for)

    def decorate(test):
        def in_drawn_group(self, case):
            ranks = case.pop("ranks")
            everyone = len(ranks) == WORLD_SIZE
            handle = None if everyone else dist.new_group(ranks)
            if self.rank in ranks:
                test(self, Group(ranks, ranks.index(self.rank), handle), **case)

        # Not functools.wraps: the arguments are other ones.
        for name in ("__module__", "__name__", "__qualname__", "__doc__"):
            setattr(in_drawn_group, name, getattr(test, name))
        return EXAMPLES(given(case=cases)(in_drawn_group))

    return decorate


class PropertyTestCase(MultiProcessTestCase):
    """Brings up gloo, and compares what was found with the model."""

    world_size = WORLD_SIZE
    isolation = "group"

    def perRankSetUp(self):
        accept_deprecations(self)
        self.init_process_group("gloo")

    def assert_is(self, found, wanted, op=None):
        """Compare exactly, but for the rounding of means and products of numbers with fractions.

        Args:
            found: a tensor, or a list of them.
            wanted: the model's.
            op: the reduction, if there was one.
        """
        if isinstance(wanted, list):
            self.assertEqual(len(found), len(wanted))
            for x, y in zip(found, wanted, strict=True):
                self.assert_is(x, y, op)
            return
        rtol = 0.0
        if op in (dist.ReduceOp.PRODUCT, dist.ReduceOp.AVG) and not is_exact(wanted.dtype):
            rtol = 2 * self.world_size * torch.finfo(wanted.dtype).eps
        self.assertEqual(found, wanted, rtol=rtol, atol=0)

    @staticmethod
    def wait(work):
        """Wait for what was started with async_op=True."""
        if work is not None:
            work.wait()


def is_exact(dtype: torch.dtype) -> bool:
    return not (dtype.is_floating_point or dtype.is_complex)
