"""One rank as the supervisor sees it: its phase, its messages, its outcome.

    START -Ready-> BODY -Report-> EXIT -exit-> GONE
                    ^               |
                    |             Waits, WaitsForExample
                 next test          v
                 or example <- BETWEEN_TESTS, BETWEEN_EXAMPLES

A process that exits is GONE, whatever its phase was. The first settled outcome stands, with one
exception: a process that dies while BETWEEN_TESTS or BETWEEN_EXAMPLES gets the outcome of its exit.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import replace
from typing import assert_never

from harness.diagnosis.words import grouped, rank_list
from harness.model.clock import now
from harness.model.communication import CommunicationRecord
from harness.model.evidence import Snapshot
from harness.model.example import Remarks
from harness.model.expectation import Expectation
from harness.model.outcome import (
    Exited,
    Killed,
    Lost,
    Outcome,
    Passed,
    Place,
    ReportedOutcome,
    Sabotaged,
    Skipped,
    is_worse,
)
from harness.model.phase import WAITING, Phase
from harness.model.skips import skip_reason_of_exit
from harness.model.timeline import CollectiveSpan
from harness.model.warning_data import IssuedWarning
from harness.ranks.handle import RankHandle
from harness.ranks.messages import (
    AtMeeting,
    ConnectingAnswer,
    Exits,
    FromRank,
    Goodbye,
    PhaseBegun,
    Ready,
    Report,
    Sabotage,
    SnapshotAnswer,
    TerminalRequest,
    TextProduced,
    Waits,
    WaitsForExample,
    WarningShown,
    WhereAnswer,
)
from harness.ranks.progress import Progress

# A thread of the harness sends these in the rank even while the test hangs, so they are no sign of
# progress. All other messages postpone the next look of the deadlock watch.
_NOT_PROGRESS = (SnapshotAnswer, WhereAnswer, ConnectingAnswer)


class WatchedRank:
    """A rank, and everything that is known about it so far."""

    def __init__(self, handle: RankHandle) -> None:
        self.handle = handle
        # A reused rank sends Ready only before its first test.
        self.phase = Phase.START if handle.is_new else Phase.BODY
        self.phase_before_end = self.phase
        self.reported: ReportedOutcome | None = None
        self.reported_at_s = 0.0
        self.communication: CommunicationRecord | None = None
        self.left_from: Place | None = None
        self.imported: tuple[str, ...] = ()
        self.left: tuple[str, ...] = ()
        self.positions: dict[str, int] = {}
        self.is_clean = self.said_goodbye = False
        self.remarks = Remarks()
        self.expectations: list[Expectation] = []
        self.warnings: list[IssuedWarning] = []
        self.arrivals: list[tuple[str, str]] = []
        self.sabotage = ""
        # For `LeaveGate`: whether the rank waits, and its last answer (question, is connecting).
        self.waits_to_leave = False
        self.is_connecting: tuple[int, bool] | None = None
        self.terminal_requests: list[bool] = []
        self.outcome: Outcome | None = None
        self.at_s = 0.0
        self.snapshot: Snapshot | None = None
        self.answered_round = 0
        self.is_asked_where = False
        self.position: WhereAnswer | None = None
        self.progress = Progress(handle.asked_s)
        self.spans: tuple[CollectiveSpan, ...] = ()
        self.ended_s: float | None = None

    def __repr__(self) -> str:
        return f"<{self.handle!r} {self.phase.name} {self.outcome or self.reported}>"

    @property
    def rank(self) -> int:
        return self.handle.rank

    @property
    def alive(self) -> bool:
        return self.handle.exit_code is None

    def handle_messages(self) -> bool:
        """Handle the messages that have arrived; return whether any showed progress of the test."""
        has_progressed = False
        for message in self.handle.messages():
            self._handle_message(message)
            has_progressed = has_progressed or not isinstance(message, _NOT_PROGRESS)
        if self.handle.fault and self.phase is not Phase.GONE:
            self._settle_unreadable()
            return True
        return has_progressed

    def _settle_unreadable(self) -> None:
        """Settle a rank whose messages cannot be read: nothing that it reports can be trusted."""
        self.settle(
            Lost(
                f"the harness cannot read its messages: {self.handle.fault} (has the test written "
                "to a file descriptor that is not its own, or does the rank run another version of "
                "harness?)"
            )
        )

    def _handle_message(self, message: FromRank) -> None:
        match message:
            case Ready():
                self.phase = Phase.BODY
            case Report():
                self._take_report(message)
            case SnapshotAnswer():
                self.answered_round = message.round
                self._keep_snapshot(message)
            case PhaseBegun(name, at_s):
                self.progress.enter(name, at_s)
            case WhereAnswer():
                self.position, self.is_asked_where = message, False
            case ConnectingAnswer(number, value):
                self.is_connecting = (number, value)
            case Exits(where):
                self.left_from = where
            case Goodbye(imported):
                self.imported = imported
                self.said_goodbye = True
            case Waits():
                self.left, self.is_clean = message.left, message.is_clean
                self.imported = message.imported
                self._wait(Phase.BETWEEN_TESTS, message.positions)
            case WaitsForExample():
                self.left, self.is_clean, self.imported = (), True, ()
                self.remarks = message.remarks
                self._wait(Phase.BETWEEN_EXAMPLES, message.positions)
            case AtMeeting(label, value):
                self.arrivals.append((label, value))
            case TerminalRequest(wanted):
                self.terminal_requests.append(wanted)
            case TextProduced(expectation):
                self.expectations.append(expectation)
            case WarningShown(warning):
                self.warnings.append(warning)
            case Sabotage(deed):
                self.sabotage = deed
            case _:
                assert_never(message)

    def _take_report(self, report: Report) -> None:
        self.phase = Phase.EXIT
        self.waits_to_leave = report.waits
        if self.reported is None or is_worse(report.outcome, self.reported):
            self.reported, self.reported_at_s = report.outcome, now()
            self.communication = report.communication
        self._keep_snapshot(report)

    def _wait(self, phase: Phase, positions: dict[str, int]) -> None:
        self.phase, self.ended_s = phase, now()
        self.positions = positions
        if self.reported is not None:
            self.settle(self.reported, self.reported_at_s)

    def _keep_snapshot(self, message: Report | SnapshotAnswer) -> None:
        if message.spans:
            self.spans = message.spans
        taken = message.snapshot
        if taken is None:
            # The rank could not take a snapshot. Drop the last one, which is out of date, unless
            # the body has ended: then it shows what the body had called.
            self.snapshot = self.snapshot if self.reported is not None else None
            return
        is_leaving = self.reported is not None and isinstance(message, SnapshotAnswer)
        if is_leaving and self.snapshot is not None:
            # A rank that leaves destroys its process groups, and torch forgets their collectives.
            # The deadlock watch compares what peers wait for with what this rank had called by the
            # end of its body, so keep those.
            called = self.snapshot.collectives or taken.collectives
            taken = replace(
                self.snapshot,
                threads=taken.threads,
                cpu_s=taken.cpu_s,
                waiting=None,
                collectives=called,
            )
        self.snapshot = taken

    def settle(self, outcome: Outcome, at_s: float | None = None) -> None:
        """Set the outcome, unless the rank has one."""
        if self.outcome is None:
            self.outcome = outcome
            self.at_s = now() if at_s is None else at_s

    def settle_by_exit(self, code: int) -> None:
        """Set the outcome of a process that has exited, by its report and its exit code."""
        if self.phase in WAITING:
            self.outcome = None  # it was idle, so whatever ended it counts
        self.phase, self.ended_s = Phase.GONE, now()
        # A rank sends Goodbye when nothing is left that can fail. That stands in for the exit code
        # where the code is unknown.
        is_well = code == 0 or (self.handle.is_lost and self.said_goodbye)
        if self.reported is not None and (is_well or not isinstance(self.reported, Passed)):
            self.settle(self.reported, self.reported_at_s)
        else:
            self.settle(self._outcome_of(code))

    def _outcome_of(self, code: int) -> Outcome:
        if self.handle.is_lost:
            return self.handle.outcome_if_lost
        reason = skip_reason_of_exit(code)
        if reason is not None and self.reported is None:
            return Skipped(reason)
        after_body = self.reported is not None
        if self.sabotage == "kill" and code == -signal.SIGKILL:
            return Sabotaged("killed")
        if code < 0:
            return Killed(-code, after_body)
        return Exited(code, after_body, self.left_from)


def leftovers_text(ranks: Sequence[WatchedRank]) -> list[str]:
    """Return what the test has left behind, as text.

    The numbers of collectives matter only if all ranks are reused. If one has ended (the test may
    kill it by @kill_rank), its peers are replaced, too.
    """
    found = grouped((rank.rank, text) for rank in ranks for text in rank.left)
    texts = [f"{rank_list(having)}: {text}" for text, having in found]
    have_all_stayed = all(rank.phase in WAITING for rank in ranks)
    return [*texts, _difference(ranks)] if have_all_stayed and not are_in_sync(ranks) else texts


def are_in_sync(ranks: Sequence[WatchedRank]) -> bool:
    """Whether all ranks have called the same number of collectives on each kept group."""
    return all(rank.positions == ranks[0].positions for rank in ranks)


def _difference(ranks: Sequence[WatchedRank]) -> str:
    if any(rank.positions.keys() != ranks[0].positions.keys() for rank in ranks):
        return "the ranks have different process groups: " + ", ".join(map(_groups, ranks))
    counts = ", ".join(f"rank {rank.rank}: {sum(rank.positions.values())}" for rank in ranks)
    return f"the ranks have called different numbers of collectives: {counts}"


def _groups(rank: WatchedRank) -> str:
    return f"rank {rank.rank}: {', '.join(map(repr, rank.positions)) or 'none'}"


def imported_by(ranks: Sequence[WatchedRank]) -> tuple[str, ...]:
    """Return the modules that some rank had to import itself, in import order."""
    return tuple(dict.fromkeys(name for rank in ranks for name in rank.imported))
