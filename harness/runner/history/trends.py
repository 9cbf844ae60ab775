"""Statistics about past runs: slow tests, flaky tests, and tests that have begun to fail."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import NamedTuple

#: How many of a test's last runs count for its expected duration.
RECENT = 5
# How many earlier runs a trend needs.
_ENOUGH = 3
# A test that was in none of this many last runs was removed or renamed; it is not reported.
_CURRENT_RUNS = 50


class Outcome(NamedTuple):
    """The outcome of a test in one run.

    Attributes:
        run: number of the run; later runs have larger numbers.
        at_s: when the run began, in seconds since the epoch.
        code: digest of the code; empty if unknown.
        failed: whether its last attempt failed.
        flaky: whether it failed first and then passed.
        seconds: how long it took.
        why: one line about why it failed.
    """

    run: int
    at_s: float
    code: str
    failed: bool
    flaky: bool
    seconds: float
    why: str


#: Test to its outcomes, from the oldest to the newest; never empty.
Past = Mapping[str, Sequence[Outcome]]


@dataclass(frozen=True)
class Slow:
    """The duration of a test.

    Attributes:
        expected_s: the median of its last runs.
        last_s: its last run.
        trend: relative change of `expected_s` against the median before; None for too few runs.
    """

    test_id: str
    expected_s: float
    last_s: float
    trend: float | None


@dataclass(frozen=True)
class Flaky:
    """A test that both passes and fails.

    Attributes:
        runs: the number of its runs.
        flaky: in how many of them it failed first and passed in a retry.
        flips: how often it passed in the run after a failure, with the same code.
    """

    test_id: str
    runs: int
    flaky: int
    flips: int


@dataclass(frozen=True)
class NewlyFailing:
    """A test that failed in its last run and passed in the one before.

    Attributes:
        since_s: start of the run in which it failed, in seconds since the epoch.
        passed_s: start of the run in which it passed.
        why: why it failed.
    """

    test_id: str
    since_s: float
    passed_s: float
    why: str


@dataclass(frozen=True)
class Trends:
    """All statistics; `runs` is the number of past runs."""

    runs: int
    slowest: tuple[Slow, ...] = ()
    flakiest: tuple[Flaky, ...] = ()
    newly_failing: tuple[NewlyFailing, ...] = ()


def trends_of(past: Past, limit: int) -> Trends:
    """Return the slowest, flakiest and newly failing tests, at most `limit` of each."""
    runs = sorted({outcome.run for outcomes in past.values() for outcome in outcomes})
    current = set(runs[-_CURRENT_RUNS:])
    past = {test: outcomes for test, outcomes in past.items() if outcomes[-1].run in current}
    return Trends(
        len(runs),
        tuple(slowest(past)[:limit]),
        tuple(flakiest(past)[:limit]),
        tuple(newly_failing(past)[:limit]),
    )


def slowest(past: Past) -> list[Slow]:
    """Return all tests, the slowest first."""
    found = (_slow(test, [o.seconds for o in outcomes]) for test, outcomes in past.items())
    return sorted(found, key=lambda slow: (-slow.expected_s, slow.test_id))


def _slow(test: str, seconds: Sequence[float]) -> Slow:
    expected, before = median(seconds[-RECENT:]), seconds[:-RECENT]
    # Medians, since one slow run on a busy machine is not a trend.
    known = len(before) >= _ENOUGH and median(before) > 0
    return Slow(test, expected, seconds[-1], expected / median(before) - 1 if known else None)


def flakiest(past: Past) -> list[Flaky]:
    """Return the tests that were flaky or flipped, the most frequent first."""
    found = (
        Flaky(test, len(outcomes), sum(o.flaky for o in outcomes), _flips(outcomes))
        for test, outcomes in past.items()
    )
    unsteady = (flaky for flaky in found if flaky.flaky or flaky.flips)
    return sorted(unsteady, key=lambda f: (-(f.flaky + f.flips), f.runs, f.test_id))


def _flips(outcomes: Iterable[Outcome]) -> int:
    return sum(
        # With equal code only: a fix is not a flip.
        before.failed and not after.failed and bool(after.code) and before.code == after.code
        for before, after in pairwise(outcomes)
    )


def newly_failing(past: Past) -> list[NewlyFailing]:
    """Return the tests that have begun to fail, the latest first."""
    found = [
        NewlyFailing(test, outcomes[-1].at_s, outcomes[-2].at_s, outcomes[-1].why)
        for test, outcomes in past.items()
        if len(outcomes) > 1 and outcomes[-1].failed and not outcomes[-2].failed
    ]
    return sorted(found, key=lambda new: (-new.since_s, new.test_id))
