"""What a strategy draws: many values, or the simplest one that meets a condition."""

from __future__ import annotations

from random import Random

from hypothesis import Phase, find, given, settings
from hypothesis.vendor.pretty import pretty


def all_drawn(strategy, count=200):
    """What a strategy draws in so many examples."""
    found = []

    @settings(max_examples=count, database=None, derandomize=True, phases=[Phase.generate])
    @given(strategy)
    def collect(value):
        found.append(value)

    collect()
    return found


def simplest(strategy, condition=lambda _: True):
    """What an example that meets a condition shrinks to, as it is printed."""
    limits = settings(max_examples=5000, database=None)
    found = find(strategy, condition, settings=limits, random=Random(0))
    return pretty(found).replace("\n", "")
