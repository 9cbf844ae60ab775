"""Ask the ranks of a world where they are, on behalf of `harness.ranks.watch.where`.

The supervisor's loop drives it. It uses its own kind of message, so that the answers disturb
neither the deadlock watch nor the snapshots for the report.
"""

from __future__ import annotations

import queue
from collections.abc import Sequence

from harness.diagnosis.position import Position, position_of_rank, table
from harness.diagnosis.words import state
from harness.model.clock import NEVER, Deadline, now
from harness.model.phase import Phase
from harness.ranks.messages import WhereRequest
from harness.ranks.watch import where
from harness.ranks.watch.watched_rank import WatchedRank

# How long ranks may take to answer. One that takes longer holds the GIL in native code, or is
# stopped; the table says so. Shorter than `where.ANSWER_S`, so that the answer arrives in time.
_RANKS_ANSWER_S = 1.0

_Answer = queue.SimpleQueue[str | None]


# States and transitions. `_open` has the questions that wait for the same answer:
#
#   quiet      `_open` is empty
#   asking     a question has arrived: WhereRequest is sent to all ranks that can answer
#   quiet      all of them have answered, or the deadline has expired: every question gets the table
#   closed     close(): the ranks are done; open and later questions get None, and `where` reports
#              the main thread instead
#
# status_text() runs in the status thread, everything else in the supervisor's.


class StatusRequests:
    """The questions that arrive while one world runs.

    Args:
        ranks: the ranks of the world.
    """

    def __init__(self, ranks: Sequence[WatchedRank]) -> None:
        self._ranks = ranks
        self._wakeup = where.wakeup()
        self._asked: queue.SimpleQueue[_Answer] = queue.SimpleQueue()
        self._open: list[_Answer] = []
        self.deadline = NEVER

    def status_text(self, limit_s: float) -> str | None:
        """Return where the ranks are, or None at the limit; the status thread calls this."""
        answer: _Answer = queue.SimpleQueue()
        self._asked.put(answer)
        wakeup = self._wakeup
        if wakeup is None:
            return None
        wakeup.set()
        try:
            return answer.get(timeout=limit_s)
        except queue.Empty:
            return None

    @property
    def fds(self) -> list[int]:
        """Return the additional descriptors that the loop must wait on."""
        return [] if self._wakeup is None else [self._wakeup.fd]

    def advance(self, ready: set[int]) -> None:
        """Take the next step: ask the ranks, or answer once they have answered or time is up."""
        if self._wakeup is not None and self._wakeup.fd in ready:
            self._wakeup.clear()
            self._begin()
        if self._open and (self.deadline.expired or not any(map(_is_awaited, self._ranks))):
            self._answer(table([_position(rank) for rank in self._ranks]))

    def _begin(self) -> None:
        """Ask every rank that has no unanswered request."""
        self._open += _all_in(self._asked)
        if not self._open:
            return
        self.deadline = Deadline.after(_RANKS_ANSWER_S)
        for rank in filter(_can_answer, self._ranks):
            rank.position = None
            if not rank.is_asked_where:
                rank.is_asked_where = rank.handle.ask(WhereRequest())

    def _answer(self, text: str | None) -> None:
        for answer in self._open:
            answer.put(text)
        self._open.clear()
        self.deadline = NEVER

    def close(self) -> None:
        """Answer None to all open questions, since the ranks are done."""
        self._wakeup = None
        self._open += _all_in(self._asked)
        self._answer(None)


def _all_in(asked: queue.SimpleQueue[_Answer]) -> list[_Answer]:
    return [asked.get() for _ in range(asked.qsize())]


def _can_answer(rank: WatchedRank) -> bool:
    return rank.phase in {Phase.BODY, Phase.EXIT}


def _is_awaited(rank: WatchedRank) -> bool:
    return _can_answer(rank) and rank.is_asked_where and rank.position is None


def _position(rank: WatchedRank) -> Position:
    who = f"rank {rank.rank}"
    if not _can_answer(rank):
        if rank.phase is Phase.START:
            age_s = now() - rank.handle.asked_s
            return Position(who, "starting", since=f"(start for {age_s:.1f} s)")
        return Position(who, state(rank.outcome) if rank.outcome is not None else "ended")
    if rank.position is None:
        return Position(who, f"does not answer ({rank.handle.state() or 'gone'})")
    answered = rank.position
    return position_of_rank(rank.rank, answered.phase, answered.since_s, answered.snapshot)
