"""Decides when a rank whose body has passed may close its connections.

For gloo, a group is up in a rank as soon as that rank's own connections are. A rank with a short
body would close them while a peer is still bringing the group up, and the peer would fail with
"Connection closed by peer". So a rank that has process groups and has passed waits for the parent.
The parent lets it go once every other body has ended, or no rank is bringing up a group. What ranks
do from then on is up to the test: they would lose this peer under any harness.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from harness.model.clock import NEVER, Deadline
from harness.ranks.messages import ConnectingRequest, MayLeave, frame
from harness.ranks.watch.watched_rank import Phase, WatchedRank

# Most ranks end together, so the first question can wait.
_FIRST_S = 0.01
_NEXT_S = 0.05

_numbers = itertools.count(1)


class LeaveGate:
    """The ranks of one test that wait to leave.

    Args:
        ranks: all ranks of the test.
    """

    def __init__(self, ranks: Sequence[WatchedRank]) -> None:
        self._ranks = ranks
        self._question: int | None = None
        self.deadline = NEVER

    def advance(self, is_ending: bool) -> None:
        """Take the next step: let ranks go, or ask whether they may.

        Args:
            is_ending: whether the test is being ended, so that nobody waits for anything.
        """
        waiting = [rank for rank in self._ranks if rank.waits_to_leave]
        if not waiting:
            self._question, self.deadline = None, NEVER
        elif is_ending or not self._running or self._is_answered:
            self._let_go(waiting)
        elif self.deadline is NEVER:
            self.deadline = Deadline.after(_FIRST_S)
        elif self.deadline.expired:
            self._ask()

    @property
    def _running(self) -> list[WatchedRank]:
        """The ranks whose body may still bring up a group."""
        phases = {Phase.STARTING, Phase.RUNNING}
        return [rank for rank in self._ranks if rank.phase in phases and not rank.sabotage]

    @property
    def _is_answered(self) -> bool:
        """Whether all that run have said since the question that they bring up no group."""
        return self._question is not None and all(
            rank.is_connecting == (self._question, False) for rank in self._running
        )

    def _ask(self) -> None:
        self._question = next(_numbers)
        self.deadline = Deadline.after(_NEXT_S)
        for rank in self._running:
            rank.handle.ask(ConnectingRequest(self._question))

    def _let_go(self, waiting: Sequence[WatchedRank]) -> None:
        for rank in waiting:
            rank.waits_to_leave = False
            rank.handle.order(frame(MayLeave()))
        self._question, self.deadline = None, NEVER
