"""One rank as the supervisor sees it: its phase, what it has said, what became of it."""

from __future__ import annotations

import enum
import signal
from collections.abc import Sequence
from dataclasses import replace

from harness.diagnosis.words import grouped, rank_list
from harness.model.clock import now
from harness.model.evidence import Snapshot, snapshot_from_data
from harness.model.example import Remarks
from harness.model.expectation import Expectation
from harness.model.outcome import (
    Exited,
    Killed,
    Lost,
    Outcome,
    Passed,
    Place,
    Sabotaged,
    Skipped,
    Spoken,
    is_worse,
    spoken_from_data,
)
from harness.model.skips import skip_reason_of_exit
from harness.model.timeline import CollectiveSpan
from harness.model.warning_data import IssuedWarning
from harness.ranks.channel import Message
from harness.ranks.handle import RankHandle
from harness.ranks.progress import Progress


class Phase(enum.Enum):
    """How far a rank has come."""

    STARTING = "start"
    RUNNING = "body"
    LEAVING = "exit"
    GONE = "gone"
    PARKED = "between tests"
    BETWEEN_EXAMPLES = "between examples"


#: The rank waits for its parent: for another test, or for another example of a property test.
WAITING = (Phase.PARKED, Phase.BETWEEN_EXAMPLES)


# Answers of the rank's listener, which say nothing of what the test does.
_NO_NEWS = frozenset({"snapshot", "where", "connecting"})


class WatchedRank:
    """A rank and all that is known of it so far."""

    def __init__(self, handle: RankHandle) -> None:
        self.handle = handle
        # A rank that stays says that it is up before its first test only.
        self.phase = Phase.STARTING if handle.is_new else Phase.RUNNING
        self.phase_before_end = self.phase
        self.spoken: Spoken | None = None
        self.spoken_at_s = 0.0
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
        # Whether it waits for `LeaveGate`, and what it last said to whether it brings up a group.
        self.waits_to_leave = False
        self.is_connecting: tuple[int, bool] | None = None
        self.terminal_wishes: list[bool] = []
        self.outcome: Outcome | None = None
        self.at_s = 0.0
        self.snapshot: Snapshot | None = None
        self.answered_round = 0
        self.is_sought = False
        self.position: Message | None = None
        self.progress = Progress(handle.asked_s)
        self.spans: tuple[CollectiveSpan, ...] = ()
        self.ended_s: float | None = None

    def __repr__(self) -> str:
        return f"<{self.handle!r} {self.phase.name} {self.outcome or self.spoken}>"

    @property
    def rank(self) -> int:
        return self.handle.rank

    @property
    def alive(self) -> bool:
        return self.handle.exit_code is None

    def hear_all(self) -> bool:
        """Take in what the rank has said by now; whether there was any news of the test in it."""
        news = False
        for message in self.handle.messages():
            try:
                self._hear(message)
            except (LookupError, TypeError, ValueError, AttributeError) as error:
                self._settle_unreadable(f"{message!r:.200} ({type(error).__name__}: {error})")
                return True
            news = news or message["kind"] not in _NO_NEWS
        if self.handle.fault and self.phase is not Phase.GONE:
            self._settle_unreadable(self.handle.fault)
            return True
        return news

    def _settle_unreadable(self, what: str) -> None:
        """What comes from it is not what ranks say, so that it can be judged by nothing."""
        self.settle(
            Lost(
                f"the harness cannot read what it sent: {what}; a test that writes to a file "
                "descriptor that is not its own does this, or another version of the harness"
            )
        )

    def _hear(self, message: Message) -> None:
        kind = message["kind"]
        if kind == "hello":
            self.phase = Phase.RUNNING
        elif kind == "outcome":
            self.phase = Phase.LEAVING
            self.waits_to_leave = message.get("waits", False)
            spoken = spoken_from_data(message["outcome"])
            if self.spoken is None or is_worse(spoken, self.spoken):
                self.spoken, self.spoken_at_s = spoken, now()
            self._keep_snapshot(message)
        elif kind == "snapshot":
            self.answered_round = message["round"]
            self._keep_snapshot(message)
        elif kind == "phase":
            self.progress.enter(message["name"], message["at_s"])
        elif kind == "where":
            self.position, self.is_sought = message, False
        elif kind == "connecting":
            self.is_connecting = (message["number"], message["value"])
        elif kind == "leaving":
            self.left_from = Place(**message["where"]) if message["where"] else None
        elif kind == "goodbye":
            self.imported = tuple(message["imported"])
            self.said_goodbye = True
        elif kind == "parked":
            self._wait(Phase.PARKED, message)
        elif kind == "awaits example":
            self._wait(Phase.BETWEEN_EXAMPLES, message)
            self.remarks = Remarks.from_data(message["remarks"])
        elif kind == "meet":
            self.arrivals.append((message["label"], message["value"]))
        elif kind == "terminal":
            self.terminal_wishes.append(message["wanted"])
        elif kind == "expectation":
            self.expectations.append(Expectation(**message["expectation"]))
        elif kind == "warning":
            self.warnings.append(IssuedWarning(**message["warning"]))
        elif kind == "sabotage":
            self.sabotage = message["deed"]

    def _wait(self, phase: Phase, message: Message) -> None:
        self.phase, self.ended_s = phase, now()
        self.imported = tuple(message["imported"])
        self.left = tuple(message["left"])
        self.is_clean = message["is_clean"]
        self.positions = message["positions"]
        if self.spoken is not None:
            self.settle(self.spoken, self.spoken_at_s)

    def _keep_snapshot(self, message: Message) -> None:
        if message.get("spans"):
            self.spans = tuple(CollectiveSpan(**span) for span in message["spans"])
        if message["snapshot"] is None:
            # Nothing is known of where it is now; the last snapshot would be taken for an answer.
            self.snapshot = self.snapshot if self.spoken is not None else None
            return
        taken = snapshot_from_data(message["snapshot"])
        if self.spoken is not None and message["kind"] == "snapshot" and self.snapshot is not None:
            # While a rank leaves, its process group goes; what it had called by the end of its
            # body is what its peers may wait for.
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
        """Fix the outcome; the first one stands."""
        if self.outcome is None:
            self.outcome = outcome
            self.at_s = now() if at_s is None else at_s

    def settle_by_exit(self, code: int) -> None:
        """The process has ended: fix the outcome by what it has said and by the exit code."""
        if self.phase in WAITING:
            self.outcome = None  # it was to stay; whatever ended it counts
        self.phase, self.ended_s = Phase.GONE, now()
        # The last that a rank says, it says when nothing is left to go wrong.
        is_well = code == 0 or (self.handle.is_lost and self.said_goodbye)
        if self.spoken is not None and (is_well or not isinstance(self.spoken, Passed)):
            self.settle(self.spoken, self.spoken_at_s)
        else:
            self.settle(self._outcome_of(code))

    def _outcome_of(self, code: int) -> Outcome:
        if self.handle.is_lost:
            return self.handle.outcome_if_lost
        reason = skip_reason_of_exit(code)
        if reason is not None and self.spoken is None:
            return Skipped(reason)
        after_body = self.spoken is not None
        if self.sabotage == "kill" and code == -signal.SIGKILL:
            return Sabotaged("killed")
        if code < 0:
            return Killed(-code, after_body)
        return Exited(code, after_body, self.left_from)


def left_in(ranks: Sequence[WatchedRank]) -> list[str]:
    """What the test has left, in words.

    A rank that has ended leaves nothing: it was killed or stopped on purpose, say. Its peers are
    then replaced too, so it does not matter how many collectives they have called.
    """
    found = grouped((rank.rank, text) for rank in ranks for text in rank.left)
    told = [f"{rank_list(having)}: {text}" for text, having in found]
    have_all_stayed = all(rank.phase in WAITING for rank in ranks)
    return [*told, _steps(ranks)] if have_all_stayed and not are_in_step(ranks) else told


def are_in_step(ranks: Sequence[WatchedRank]) -> bool:
    """Whether all have called equally many collectives on the groups that stay."""
    return all(rank.positions == ranks[0].positions for rank in ranks)


def _steps(ranks: Sequence[WatchedRank]) -> str:
    if any(rank.positions.keys() != ranks[0].positions.keys() for rank in ranks):
        return "the ranks have different process groups: " + ", ".join(map(_groups, ranks))
    counts = ", ".join(f"rank {rank.rank} {sum(rank.positions.values())}" for rank in ranks)
    return f"the ranks have called different numbers of collectives: {counts}"


def _groups(rank: WatchedRank) -> str:
    return f"rank {rank.rank} {', '.join(map(repr, rank.positions)) or 'none'}"


def imported_by(ranks: Sequence[WatchedRank]) -> tuple[str, ...]:
    """Modules that some rank had to import itself, in the order of their import."""
    return tuple(dict.fromkeys(name for rank in ranks for name in rank.imported))
