"""From the outcomes of all ranks to the verdict on the test: one pure function."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.model.outcome import (
    Deadlocked,
    Ended,
    Exited,
    Failed,
    Killed,
    Outcome,
    Passed,
    Problem,
    Raised,
    Sabotaged,
    Skipped,
    SubTest,
    TimedOut,
    outcome_of_problems,
)
from harness.model.rank_report import RankReport, Tail


class VerdictKind(enum.Enum):
    """What a test's ranks add up to."""

    PASSED = "passed"
    SKIPPED = "skipped"
    FAILED = "failed"
    RAISED = "raised"
    DIED = "died"
    TIMED_OUT = "timed out"
    DEADLOCKED = "deadlocked"
    DISAGREED = "disagreed"


#: The verdicts that a failing test body can bring about by itself: what expectedFailure accepts.
TEST_FAULTS = frozenset({VerdictKind.FAILED, VerdictKind.RAISED})


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

    def accepts(self, outcome: Outcome) -> bool:
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


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict on one test.

    Attributes:
        kind: what the outcomes add up to.
        reports: a report for each rank, in the order of ranks.
        culprits: the ranks at fault, root cause first; the others follow by time.
        collateral: ranks whose error is only the echo of another rank's end.
        reason: why a skipped test was skipped.
        is_xfail: whether the ranks did so by `pytest.xfail()`.
        rule: the exit codes that the test means to end with.
    """

    kind: VerdictKind
    reports: tuple[RankReport, ...]
    culprits: tuple[int, ...] = ()
    collateral: frozenset[int] = frozenset()
    reason: str = ""
    rule: ExitRule = USUAL_EXIT
    is_xfail: bool = False

    @property
    def is_trouble(self) -> bool:
        """Whether it is neither a pass nor a skip."""
        return self.kind not in {VerdictKind.PASSED, VerdictKind.SKIPPED}


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
        return _blame(by_rank, bad, rule)
    skipped = [r for r in by_rank if isinstance(r.outcome, Skipped)]
    if skipped and len(skipped) == len(by_rank) and len(kinds := _kinds_of_skip(skipped)) == 1:
        return Verdict(
            VerdictKind.SKIPPED, by_rank, reason=_reason_of(skipped), is_xfail=kinds.pop()
        )
    unfinished = [r for r in by_rank if isinstance(r.outcome, Ended)]
    hit = [r for r in by_rank if isinstance(r.outcome, Sabotaged)]
    if skipped or unfinished or len(hit) == len(by_rank):
        odd = sorted(skipped or unfinished or hit, key=lambda report: report.at_s)
        return Verdict(VerdictKind.DISAGREED, by_rank, tuple(r.rank for r in odd))
    return Verdict(VerdictKind.PASSED, by_rank)


def _is_bad(report: RankReport, rule: ExitRule) -> bool:
    if rule.accepts(report.outcome):
        return False
    if isinstance(report.outcome, Passed):
        return rule.demands_exit_of(report.rank)
    return not isinstance(report.outcome, Skipped | Ended | Sabotaged)


def _blame(by_rank: tuple[RankReport, ...], bad: list[RankReport], rule: ExitRule) -> Verdict:
    """The verdict when these ranks, the first one first, are bad.

    An echo cannot be the cause, even if it was heard first: its peer leaves before it can say why.
    """
    own = [r for r in bad if not is_echo(r.outcome)]
    echoes = [r for r in bad if is_echo(r.outcome)] if own else []
    causes = own or bad
    return Verdict(
        max((_fault(r.outcome) for r in causes), key=_SEVERITY.index),
        by_rank,
        tuple(r.rank for r in (*causes, *echoes)),
        frozenset(r.rank for r in echoes),
        rule=rule,
    )


_SEVERITY = [
    VerdictKind.FAILED,
    VerdictKind.RAISED,
    VerdictKind.DEADLOCKED,
    VerdictKind.TIMED_OUT,
    VerdictKind.DIED,
]


def _fault(outcome: Outcome) -> VerdictKind:
    if isinstance(outcome, Failed):
        return VerdictKind.FAILED
    if isinstance(outcome, Raised):
        return VerdictKind.RAISED
    if isinstance(outcome, Deadlocked):
        return VerdictKind.DEADLOCKED
    if isinstance(outcome, TimedOut):
        return VerdictKind.TIMED_OUT
    return VerdictKind.DIED


def by_subtest(verdict: Verdict) -> dict[SubTest | None, Verdict]:
    """A verdict taken apart: one for each sub-test that failed, one (under None) for what
    went wrong outside them, if anything did.

    What the ranks printed stays with the first of them; it would only be repeated.
    """
    subtests = dict.fromkeys(
        problem.subtest for report in verdict.reports for problem in _problems(report.outcome)
    )
    parts: dict[SubTest | None, Verdict] = {}
    for subtest in subtests:
        reports = [_only(report, subtest, with_logs=not parts) for report in verdict.reports]
        parts[subtest] = judge(reports, verdict.rule)
    return parts


def _problems(outcome: Outcome) -> tuple[Problem, ...]:
    return outcome.problems if isinstance(outcome, Failed | Raised) else ()


def _only(report: RankReport, subtest: SubTest | None, with_logs: bool) -> RankReport:
    """The report as if nothing but this sub-test had gone wrong."""
    outcome = report.outcome
    if isinstance(outcome, Failed | Raised):
        kept = tuple(p for p in outcome.problems if p.subtest == subtest)
        outcome = outcome_of_problems(kept) if kept else Passed()
    changed = replace(report, outcome=outcome)
    return changed if with_logs else replace(changed, stdout=Tail(), stderr=Tail())


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


# With these types; a ConnectionResetError is of the user's own sockets.
_ECHO_TYPES = ("RuntimeError", "torch.distributed.")
# What only ever is the news that a peer has ended.
_ECHO_TYPE = "harness.PeerLeftError"


def is_echo(outcome: Outcome) -> bool:
    """Whether every problem of the outcome is only the news that a peer went away."""
    return isinstance(outcome, Raised) and all(_is_news_of_a_peer(p) for p in outcome.problems)


def _is_news_of_a_peer(problem: Problem) -> bool:
    if problem.type_name == _ECHO_TYPE:
        return True
    message = problem.message.lower()
    return problem.type_name.startswith(_ECHO_TYPES) and any(echo in message for echo in _ECHOES)


def _kinds_of_skip(skipped: list[RankReport]) -> set[bool]:
    """Whether they have skipped by `pytest.xfail()`, each value that there is."""
    return {r.outcome.is_xfail for r in skipped if isinstance(r.outcome, Skipped)}


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
