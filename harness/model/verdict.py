"""From the outcomes of all ranks to the verdict on the test: one pure function."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from harness.model.outcome import (
    Ended,
    Exited,
    Failed,
    Killed,
    Lost,
    Outcome,
    Passed,
    Raised,
    RankReport,
    Skipped,
    TimedOut,
)


class VerdictKind(enum.Enum):
    """What a test's ranks add up to."""

    PASSED = "passed"
    SKIPPED = "skipped"
    FAILED = "failed"
    RAISED = "raised"
    DIED = "died"
    TIMED_OUT = "timed out"
    DISAGREED = "disagreed"


#: The verdicts that a failing test body can bring about by itself: what expectedFailure accepts.
TEST_FAULTS = frozenset({VerdictKind.FAILED, VerdictKind.RAISED})


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict on one test.

    Attributes:
        kind: what the outcomes add up to.
        reports: a report for each rank, in the order of ranks.
        culprits: the ranks at fault, root cause first; the others follow by time.
        collateral: ranks whose error is only the echo of another rank's end.
        reason: why a skipped test was skipped.
    """

    kind: VerdictKind
    reports: tuple[RankReport, ...]
    culprits: tuple[int, ...] = ()
    collateral: frozenset[int] = frozenset()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ExitRule:
    """Which exit codes a test means to end with.

    Attributes:
        expected_code: what rank 0 must exit with, and the other ranks may; None for the usual 0.
            A negative code is a signal's number, as in `multiprocessing`.
        any_code: whether every exit code is accepted.
    """

    expected_code: int | None = None
    any_code: bool = False

    def accepts(self, rank: int, outcome: Outcome) -> bool:
        """Whether this outcome, though not `Passed`, is what the test means."""
        if not isinstance(outcome, Exited | Killed):
            return False
        if self.any_code:
            return True
        code = outcome.code if isinstance(outcome, Exited) else -outcome.signal
        return self.expected_code is not None and code == self.expected_code

    def demands_exit_of(self, rank: int) -> bool:
        return self.expected_code is not None and not self.any_code and rank == 0


USUAL_EXIT = ExitRule()


def judge(reports: Sequence[RankReport], rule: ExitRule = USUAL_EXIT) -> Verdict:
    """Add the outcomes of all ranks up to one verdict.

    Args:
        reports: one report for each rank of the world, in any order.
        rule: the exit codes that the test means to end with.

    Returns:
        the verdict: PASSED only if every rank ran its body to the end, or ended as `rule` says.
    """
    by_rank = tuple(sorted(reports, key=lambda report: report.rank))
    bad = sorted(
        (r for r in by_rank if _is_bad(r, rule)), key=lambda report: (report.at_s, report.rank)
    )
    if bad:
        return _blame(by_rank, bad)
    skipped = [r for r in by_rank if isinstance(r.outcome, Skipped)]
    if skipped and len(skipped) == len(by_rank):
        return Verdict(VerdictKind.SKIPPED, by_rank, reason=_reason_of(skipped))
    unfinished = [r for r in by_rank if isinstance(r.outcome, Ended)]
    if skipped or unfinished or not by_rank:
        odd = sorted(skipped or unfinished, key=lambda report: report.at_s)
        return Verdict(VerdictKind.DISAGREED, by_rank, tuple(r.rank for r in odd))
    return Verdict(VerdictKind.PASSED, by_rank)


def _is_bad(report: RankReport, rule: ExitRule) -> bool:
    if rule.accepts(report.rank, report.outcome):
        return False
    if isinstance(report.outcome, Passed):
        return rule.demands_exit_of(report.rank)
    return isinstance(report.outcome, Failed | Raised | Exited | Killed | TimedOut | Lost)


def _blame(by_rank: tuple[RankReport, ...], bad: list[RankReport]) -> Verdict:
    root, *others = bad
    echoes = frozenset(r.rank for r in others if is_echo(r.outcome))
    own = [root, *(r for r in others if r.rank not in echoes)]
    ordered = [*own, *(r for r in others if r.rank in echoes)]
    return Verdict(
        max((_fault(r.outcome) for r in own), key=_SEVERITY.index),
        by_rank,
        tuple(r.rank for r in ordered),
        echoes,
    )


_SEVERITY = [
    VerdictKind.FAILED,
    VerdictKind.RAISED,
    VerdictKind.TIMED_OUT,
    VerdictKind.DIED,
]


def _fault(outcome: Outcome) -> VerdictKind:
    if isinstance(outcome, Failed):
        return VerdictKind.FAILED
    if isinstance(outcome, Raised):
        return VerdictKind.RAISED
    if isinstance(outcome, TimedOut):
        return VerdictKind.TIMED_OUT
    return VerdictKind.DIED


# What gloo, NCCL, the stores and sockets say when the other side has gone away. Seen with torch
# 2.13: gloo/transport/tcp/pair.cc and TCPStore errors.
_ECHOES = (
    "connection closed by peer",
    "connection reset by peer",
    "connection refused",
    "broken pipe",
    "socket closed",
    "remote process exited",
    "connection was closed",
    "failed to recv, got 0 bytes",
    "connection aborted",
)


def is_echo(outcome: Outcome) -> bool:
    """Whether every problem of the outcome is only the news that a peer went away."""
    if not isinstance(outcome, Raised):
        return False
    return all(any(echo in p.message.lower() for echo in _ECHOES) for p in outcome.problems)


def _reason_of(skipped: list[RankReport]) -> str:
    reasons: dict[str, list[int]] = {}
    for report in skipped:
        if isinstance(report.outcome, Skipped):
            reasons.setdefault(report.outcome.reason, []).append(report.rank)
    if len(reasons) == 1:
        return next(iter(reasons))
    return "; ".join(
        f"rank {', '.join(map(str, ranks))}: {reason}" for reason, ranks in reasons.items()
    )
