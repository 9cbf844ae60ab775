"""Divide the tests into shards of about equal cost, the same on every machine."""

from __future__ import annotations

import hashlib
import heapq
import math
from collections.abc import Mapping, Sequence
from statistics import median

#: A test's id and its expected seconds; None if unknown.
Cost = tuple[str, float | None]


def shard(tests: Sequence[Cost], k: int, n: int) -> list[str]:
    """Return the tests of shard k of n, in the given order.

    Each test is in exactly one shard. The longest test goes first, each into the shard with the
    lowest total, so that totals differ by one test at most.

    The result depends only on ids and costs, not on the order. All shards must use the same tests
    and costs, so they need the same history or none. With different histories, some tests would
    run in no shard; `plan_of` detects this.

    Args:
        tests: ids and expected seconds. An unknown cost counts as the median.
        k: number of the shard, from 1.
        n: the number of shards.

    Raises:
        ValueError: if k is not between 1 and n.
    """
    if not 1 <= k <= n:
        raise ValueError(f"shard {k}/{n}: the number of a shard must be between 1 and {n}")
    home = _assign(_costs(tests), n)
    return [test for test, _ in tests if home[test] == k - 1]


def plan_of(tests: Sequence[Cost], n: int) -> str:
    """Return a digest of the whole plan; shards with different digests do not belong together."""
    costs = sorted(_costs(tests).items())
    return hashlib.sha256(repr((costs, n)).encode("utf-8", "backslashreplace")).hexdigest()[:8]


def _assign(costs: Mapping[str, float], n: int) -> dict[str, int]:
    # A heap of (load, number of tests, shard). If loads are equal, as with costs of zero, the shard
    # with fewer tests comes first, so no shard stays empty. There are no more shards than tests.
    loads = [(0.0, 0, number) for number in range(min(n, len(costs)))]
    home: dict[str, int] = {}
    for test in sorted(costs, key=lambda test: (-costs[test], test)):
        load, count, number = loads[0]
        home[test] = number
        heapq.heapreplace(loads, (load + costs[test], count + 1, number))
    return home


def _costs(tests: Sequence[Cost]) -> dict[str, float]:
    """Return the cost of each test: the median if unknown, the larger one if an id occurs twice."""
    known: dict[str, float] = {}
    for test, cost in tests:
        if cost is not None and 0 <= cost < math.inf:
            known[test] = max(cost, known.get(test, 0.0))
    # The median, so that one very long test does not make all new tests look long.
    usual = median(known.values()) if known else 1.0
    return {test: known.get(test, usual) for test, _ in tests}
