"""Judge a test by the outcomes of all its ranks: one pure function."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.model.communication import Fault
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

# How `judge` decides, in this order:
#
#   1. A rank is bad             the worst fault of the bad ranks (`_SEVERITY`): FAILED … DIED.
#                                Ranks that only lost a peer count only if there is no other fault.
#   2. All ranks skipped         SKIPPED. A mix of pytest.skip() and pytest.xfail() is DISAGREED.
#   3. Some ranks skipped,       DISAGREED: the others passed, or have nothing to blame, so the
#      or were ended early,      test has no result.
#      or no rank is left
#   4. Otherwise                 PASSED. Some ranks may have been killed by the test itself.
#
# "Bad" means failed, raised, exited, killed, timed out, deadlocked or lost, unless the test expects
# that exit code (`ExitRule`).


class VerdictKind(enum.Enum):
    """The result of a test with ranks."""

    PASSED = "passed"
    SKIPPED = "skipped"
    FAILED = "failed"
    RAISED = "raised"
    DIED = "died"
    TIMED_OUT = "timed out"
    DEADLOCKED = "deadlocked"
    DISAGREED = "disagreed"
    MISCOMMUNICATED = "miscommunicated"


#: The verdicts that expectedFailure accepts: a failed assertion or an exception of the test itself,
#: or wrong communication. A crash or a hang is never what a test expects.
TEST_FAULTS = frozenset({VerdictKind.FAILED, VerdictKind.RAISED, VerdictKind.MISCOMMUNICATED})


@dataclass(frozen=True, slots=True)
class ExitRule:
    """The exit codes that a test expects, by `special_return_code_checks` for example.

    Attributes:
        expected_code: the code with which rank 0 must exit, and the other ranks may; None for 0.
            A negative code is the number of a signal, as in `multiprocessing`.
        any_code: whether every exit code is accepted.
    """

    expected_code: int | None = None
    any_code: bool = False

    def accepts(self, outcome: Outcome) -> bool:
        """Whether the test expects this exit."""
        if not isinstance(outcome, Exited | Killed):
            return False
        if self.any_code:
            return True
        code = outcome.code if isinstance(outcome, Exited) else -outcome.signal
        return self.expected_code is not None and code == self.expected_code

    def demands_exit_of(self, rank: int) -> bool:
        """Whether it is an error if this rank passes, since the test expects an exit of it."""
        return self.expected_code is not None and not self.any_code and rank == 0


USUAL_EXIT = ExitRule()


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict on one test.

    Attributes:
        kind: the result.
        reports: a report for each rank, in the order of ranks.
        culprits: the ranks at fault, the root cause first, the others in the order of time.
        collateral: the culprits that failed only because a peer had gone.
        reason: why a skipped test was skipped.
        rule: the exit codes that the test expects.
        is_xfail: whether the ranks skipped by calling `pytest.xfail()`.
        faults: what is wrong with the ranks' communication.
        gaps: what of it could not be compared, and why.
    """

    kind: VerdictKind
    reports: tuple[RankReport, ...]
    culprits: tuple[int, ...] = ()
    collateral: frozenset[int] = frozenset()
    reason: str = ""
    rule: ExitRule = USUAL_EXIT
    is_xfail: bool = False
    faults: tuple[Fault, ...] = ()
    gaps: tuple[str, ...] = ()

    @property
    def is_trouble(self) -> bool:
        """Whether the test neither passed nor was skipped."""
        return self.kind not in {VerdictKind.PASSED, VerdictKind.SKIPPED}


def judge(reports: Sequence[RankReport], rule: ExitRule = USUAL_EXIT) -> Verdict:
    """Return the verdict on a test.

    Args:
        reports: one report for each rank of the world, in any order.
        rule: the exit codes that the test expects.

    Returns:
        the verdict: PASSED only if every rank ran its body to the end, or exited as `rule` allows.
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
    sabotaged = [r for r in by_rank if isinstance(r.outcome, Sabotaged)]
    if skipped or unfinished or len(sabotaged) == len(by_rank):
        odd = sorted(skipped or unfinished or sabotaged, key=lambda report: report.at_s)
        return Verdict(VerdictKind.DISAGREED, by_rank, tuple(r.rank for r in odd))
    return Verdict(VerdictKind.PASSED, by_rank)


def _is_bad(report: RankReport, rule: ExitRule) -> bool:
    if rule.accepts(report.outcome):
        return False
    if isinstance(report.outcome, Passed):
        return rule.demands_exit_of(report.rank)
    return not isinstance(report.outcome, Skipped | Ended | Sabotaged)


def _blame(by_rank: tuple[RankReport, ...], bad: list[RankReport], rule: ExitRule) -> Verdict:
    """Return the verdict for these bad ranks, which are in the order of time.

    An echo is never the cause, even if it arrived first: when a rank dies, its peers can report a
    closed connection before the parent has noticed the death.
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


# From mild to severe. A rank that died often causes timeouts and errors on others, hence the order.
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
    """Split a verdict by sub-test.

    Returns:
        each sub-test that failed on some rank to a verdict of its own; None to the verdict on
        problems outside sub-tests, if there are any. Only the first one has the ranks' output.
    """
    subtests = dict.fromkeys(
        problem.subtest for report in verdict.reports for problem in _problems(report.outcome)
    )
    parts: dict[SubTest | None, Verdict] = {}
    for subtest in subtests:
        reports = [_for_subtest(report, subtest, with_logs=not parts) for report in verdict.reports]
        parts[subtest] = judge(reports, verdict.rule)
    return parts


def _problems(outcome: Outcome) -> tuple[Problem, ...]:
    return outcome.problems if isinstance(outcome, Failed | Raised) else ()


def _for_subtest(report: RankReport, subtest: SubTest | None, with_logs: bool) -> RankReport:
    """Return a report that has only the problems of this sub-test."""
    outcome = report.outcome
    if isinstance(outcome, Failed | Raised):
        kept = tuple(p for p in outcome.problems if p.subtest == subtest)
        outcome = outcome_of_problems(kept) if kept else Passed()
    changed = replace(report, outcome=outcome)
    return changed if with_logs else replace(changed, stdout=Tail(), stderr=Tail())


# Texts of errors of gloo, NCCL, stores and sockets whose other side has gone. Those of torch 2.13
# are in gloo/transport/tcp/pair.cc and TCPStore. A text that is missing here costs the order of the
# report (the echo may come first), never the verdict.
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


# The types of these errors. A ConnectionResetError comes from the user's own sockets instead.
_ECHO_TYPES = ("RuntimeError", "torch.distributed.")
# This error always says that a peer has ended.
_PEER_LEFT = "harness.PeerLeftError"


def is_echo(outcome: Outcome) -> bool:
    """Whether all problems of the rank only say that a peer has gone."""
    return isinstance(outcome, Raised) and all(_says_that_peer_left(p) for p in outcome.problems)


def _says_that_peer_left(problem: Problem) -> bool:
    if problem.type_name == _PEER_LEFT:
        return True
    message = problem.message.lower()
    return problem.type_name.startswith(_ECHO_TYPES) and any(echo in message for echo in _ECHOES)


def _kinds_of_skip(skipped: list[RankReport]) -> set[bool]:
    """Return the distinct values of `Skipped.is_xfail`."""
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
