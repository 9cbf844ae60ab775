"""Watches the ranks of one test until each has an outcome: one loop, no sleeping, no polling.

A rank goes through starting, running, leaving (its body is done) and gone. The loop waits for all
channels, all exits and the next deadline at once. The first bad outcome starts a short grace, in
which peers may say how they fared; whoever still runs after it is ended.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait

from harness.model.clock import NEVER, Deadline, now
from harness.model.outcome import (
    Ended,
    Exited,
    Killed,
    Lost,
    Outcome,
    Passed,
    Place,
    RankReport,
    Skipped,
    Spoken,
    TimedOut,
    spoken_from_data,
)
from harness.model.skips import skip_reason_of_exit
from harness.model.verdict import ExitRule
from harness.ranks.channel import Message
from harness.ranks.logs import log_path, read_tail
from harness.ranks.world import RankHandle, World

# After the first fault, peers usually fail of the same cause within milliseconds, and their own
# words are worth more than "was ended". It is also what a fault costs, so it is short.
PEER_GRACE_S = 0.2
# Between TERM and KILL. Only exit handlers of the test's own could use more.
TERM_GRACE_S = 0.1


class Phase(enum.Enum):
    STARTING = "start"
    RUNNING = "body"
    LEAVING = "exit"
    GONE = "gone"


@dataclass(frozen=True)
class Limits:
    """How long each phase of a test may take, in seconds."""

    start_s: float
    body_s: float
    exit_s: float


class _Watched:
    """A rank and what is known of it so far."""

    def __init__(self, handle: RankHandle) -> None:
        self.handle = handle
        self.phase = Phase.STARTING
        self.spoken: Spoken | None = None
        self.spoken_at_s = 0.0
        self.left_from: Place | None = None
        self.imported: tuple[str, ...] = ()
        self.outcome: Outcome | None = None
        self.at_s = 0.0

    def hear(self, message: Message) -> None:
        kind = message["kind"]
        if kind == "hello":
            self.phase = Phase.RUNNING
        elif kind == "outcome":
            self.phase = Phase.LEAVING
            self.spoken = spoken_from_data(message["outcome"])
            self.spoken_at_s = now()
        elif kind == "leaving":
            self.left_from = Place(**message["where"]) if message["where"] else None
        elif kind == "goodbye":
            self.imported = tuple(message["imported"])

    def settle(self, outcome: Outcome, at_s: float | None = None) -> None:
        """Fix the outcome; the first one stands."""
        if self.outcome is None:
            self.outcome = outcome
            self.at_s = now() if at_s is None else at_s

    def settle_by_exit(self, code: int) -> None:
        self.phase = Phase.GONE
        if self.spoken is not None and not (isinstance(self.spoken, Passed) and code):
            self.settle(self.spoken, self.spoken_at_s)
        else:
            self.settle(self._outcome_of(code))

    def _outcome_of(self, code: int) -> Outcome:
        if getattr(self.handle.process, "is_lost", False):
            return Lost("the fork server died, and with it the rank's exit code")
        reason = skip_reason_of_exit(code)
        if reason is not None and self.spoken is None:
            return Skipped(reason)
        after_body = self.spoken is not None
        if code < 0:
            return Killed(-code, after_body)
        return Exited(code, after_body, self.left_from)


class Supervisor:
    """Runs one world to its end and reports every rank."""

    def __init__(self, world: World, folder: str, limits: Limits, rule: ExitRule) -> None:
        self._world = world
        self._folder = folder
        self._limits = limits
        self._rule = rule
        self._ranks = [_Watched(handle) for handle in world.handles]
        self._started = Deadline.after(limits.start_s)
        self._body = NEVER
        self._exit = NEVER
        self._grace = NEVER

    def run(self) -> tuple[RankReport, ...]:
        """Wait for all outcomes. However this returns or raises, no rank is left running."""
        try:
            while self._unsettled():
                self._wait()
                self._hear_all()
                self._reap_all()
                self._advance()
        finally:
            stuck = self._world.end(TERM_GRACE_S)
        self._settle_survivors(stuck)
        return tuple(self._report(rank) for rank in self._ranks)

    @property
    def imported(self) -> tuple[str, ...]:
        """Modules that some rank had to import itself, in the order of their import."""
        return tuple(dict.fromkeys(name for rank in self._ranks for name in rank.imported))

    def _unsettled(self) -> list[_Watched]:
        return [rank for rank in self._ranks if rank.phase is not Phase.GONE]

    def _wait(self) -> None:
        fds = [r.handle.channel_fd for r in self._ranks if r.phase is not Phase.GONE]
        exits = [r.handle.exit_fd for r in self._unsettled()]
        deadline = self._started.sooner(self._body).sooner(self._exit).sooner(self._grace)
        wait([fd for fd in fds if fd is not None] + exits, deadline.remaining_s())

    def _hear_all(self) -> None:
        for rank in self._unsettled():
            self._hear(rank)

    def _hear(self, rank: _Watched) -> None:
        for message in rank.handle.messages():
            rank.hear(message)

    def _reap_all(self) -> None:
        for rank in self._unsettled():
            code = rank.handle.exit_code
            if code is not None:
                self._hear(rank)  # what it said last may have come after the last look
                rank.settle_by_exit(code)

    def _advance(self) -> None:
        """Set and apply the deadlines that the phases of the ranks call for."""
        unsettled = self._unsettled()
        phases = {rank.phase for rank in unsettled}
        if Phase.STARTING not in phases and self._started is not NEVER:
            self._started, self._body = NEVER, Deadline.after(self._limits.body_s)
        if phases == {Phase.LEAVING} and self._exit is NEVER:
            self._exit = Deadline.after(self._limits.exit_s)
        if self._grace is NEVER and any(self._is_fault(rank) for rank in self._ranks):
            self._grace = Deadline.after(PEER_GRACE_S)
        if self._grace.expired:
            self._give_up(unsettled, None)
        elif self._started.expired:
            self._give_up(unsettled, TimedOut("start", self._limits.start_s))
        elif self._body.expired:
            self._give_up(unsettled, TimedOut("body", self._limits.body_s))
        elif self._exit.expired:
            self._give_up(unsettled, TimedOut("exit", self._limits.exit_s))

    def _is_fault(self, rank: _Watched) -> bool:
        known = rank.outcome or rank.spoken
        if known is None or isinstance(known, Passed | Skipped | Ended):
            return False
        return not self._rule.accepts(rank.handle.rank, known)

    def _give_up(self, unsettled: Sequence[_Watched], blame: TimedOut | None) -> None:
        """Settle those still at it: by what they have said, else by the blame, else as ended."""
        for rank in unsettled:
            if blame and rank.phase.value == blame.phase and not self._is_fault(rank):
                rank.settle(blame)
            elif rank.spoken is not None:
                rank.settle(rank.spoken, rank.spoken_at_s)
            else:
                rank.settle(Ended(rank.phase.value))
            rank.phase = Phase.GONE

    def _settle_survivors(self, stuck: list[RankHandle]) -> None:
        for rank in self._ranks:
            if rank.handle in stuck:
                rank.outcome = None
                rank.settle(Lost("the process did not end even after SIGKILL"))

    def _report(self, rank: _Watched) -> RankReport:
        assert rank.outcome is not None
        handle = rank.handle
        return RankReport(
            handle.rank,
            rank.outcome,
            rank.at_s,
            handle.pid,
            read_tail(log_path(self._folder, handle.rank, "stdout")),
            read_tail(log_path(self._folder, handle.rank, "stderr")),
        )
