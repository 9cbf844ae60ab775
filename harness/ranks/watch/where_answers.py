"""Asks the ranks of a world where they are, for `harness.ranks.watch.where`, beside all else.

The supervisor's loop carries it. Its messages are of a kind of their own, so that no round of the
deadlock watch, no news of the test and no snapshot for the report has to do with them.
"""

from __future__ import annotations

import queue
from collections.abc import Sequence

from harness.diagnosis.position import Position, position_of_rank, table
from harness.diagnosis.words import state
from harness.model.clock import NEVER, Deadline, now
from harness.ranks.messages import WhereRequest
from harness.ranks.watch import where
from harness.ranks.watch.watched_rank import Phase, WatchedRank

# A rank that has not answered by then is busy in native code, or stopped.
_RANKS_ANSWER_S = 1.0

_Answer = queue.SimpleQueue[str | None]


class StatusRequests:
    """The questions that are asked while one world runs.

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
        """The text, asked for by another thread."""
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
        """What the loop has to wait on besides."""
        return [] if self._wakeup is None else [self._wakeup.fd]

    def advance(self, ready: set[int]) -> None:
        """Take the next step: a question has come, the ranks have answered, or will not."""
        if self._wakeup is not None and self._wakeup.fd in ready:
            self._wakeup.clear()
            self._begin()
        if self._open and (self.deadline.expired or not any(map(_is_awaited, self._ranks))):
            self._answer(table([_position(rank) for rank in self._ranks]))

    def _begin(self) -> None:
        """Ask those ranks that are not still about to answer the question before."""
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
        """The ranks are done; who still waits for an answer need not."""
        self._wakeup = None
        self._open += _all_in(self._asked)
        self._answer(None)


def _all_in(asked: queue.SimpleQueue[_Answer]) -> list[_Answer]:
    return [asked.get() for _ in range(asked.qsize())]


def _can_answer(rank: WatchedRank) -> bool:
    return rank.phase in {Phase.RUNNING, Phase.LEAVING}


def _is_awaited(rank: WatchedRank) -> bool:
    return _can_answer(rank) and rank.is_asked_where and rank.position is None


def _position(rank: WatchedRank) -> Position:
    who = f"rank {rank.rank}"
    if not _can_answer(rank):
        if rank.phase is Phase.STARTING:
            age_s = now() - rank.handle.asked_s
            return Position(who, "starts", since=f"(start for {age_s:.1f} s)")
        return Position(who, state(rank.outcome) if rank.outcome is not None else "has ended")
    if rank.position is None:
        return Position(who, f"does not answer ({rank.handle.state() or 'gone'})")
    answered = rank.position
    return position_of_rank(rank.rank, answered.phase, answered.since_s, answered.snapshot)
