"""Which of the tests a shard runs: parts of equal cost, the same ones on every machine."""

from __future__ import annotations

import hashlib
import heapq
import math
from collections.abc import Mapping, Sequence
from statistics import median

#: A test's id and the seconds it is expected to take; None where nobody knows.
Cost = tuple[str, float | None]


def shard(tests: Sequence[Cost], k: int, n: int) -> list[str]:
    """The tests of shard k of n, in the order in which they were given.

    Each test is in exactly one shard. The longest goes first, each into the shard with the least to
    do, so that shards differ by one test at most. It depends on ids and costs alone, not on the
    order: all shards must be given the same tests and costs, that is, see the same history or none.
    A shard that sees another history can leave tests out that no other shard runs; `plan_of` tells.

    Args:
        tests: ids and expected seconds. A test that nobody knows counts as the median one.
        k: number of the shard, from 1.
        n: how many shards there are.

    Raises:
        ValueError: if k is not one of 1 to n.
    """
    if not 1 <= k <= n:
        raise ValueError(f"shard {k}/{n}: the number of a shard is one of 1 to {n}")
    home = _homes(_costs(tests), n)
    return [test for test, _ in tests if home[test] == k - 1]


def plan_of(tests: Sequence[Cost], n: int) -> str:
    """A short name of the whole plan: shards that show different ones do not belong together."""
    costs = sorted(_costs(tests).items())
    return hashlib.sha256(repr((costs, n)).encode("utf-8", "backslashreplace")).hexdigest()[:8]


def _homes(costs: Mapping[str, float], n: int) -> dict[str, int]:
    # Where loads are equal, as with costs of zero, the shard with fewer tests is the lighter one.
    # So the first test of each shard takes the next number, and there are no more than tests.
    loads = [(0.0, 0, number) for number in range(min(n, len(costs)))]
    home: dict[str, int] = {}
    for test in sorted(costs, key=lambda test: (-costs[test], test)):
        load, count, number = loads[0]
        home[test] = number
        heapq.heapreplace(loads, (load + costs[test], count + 1, number))
    return home


def _costs(tests: Sequence[Cost]) -> dict[str, float]:
    """What each test is taken to cost; of an id that comes twice, the larger cost."""
    known: dict[str, float] = {}
    for test, cost in tests:
        if cost is not None and 0 <= cost < math.inf:
            known[test] = max(cost, known.get(test, 0.0))
    usual = median(known.values()) if known else 1.0
    return {test: known.get(test, usual) for test, _ in tests}
