"""Decide when a rank whose body has passed may close its connections.

In gloo (torch 2.13), a rank considers a group ready as soon as its own connections are. A rank
with a short body would close them while a peer still connects, and the peer would fail with
"Connection closed by peer". So a rank that has process groups and has passed waits for the parent.
The parent releases it once all other bodies have ended, or no rank is creating a group. If a peer
then still needs this rank, that is a bug of the test, which shows under any harness.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from harness.model.clock import NEVER, Deadline
from harness.model.phase import Phase
from harness.ranks.messages import ConnectingRequest, MayLeave
from harness.ranks.typed_message import frame
from harness.ranks.watch.watched_rank import WatchedRank

# Seconds before the first question, and between questions. Most ranks end within a few
# milliseconds of each other, so after the first delay there is usually nothing to ask.
_FIRST_S = 0.01
_NEXT_S = 0.05

_numbers = itertools.count(1)


# States and transitions of the gate:
#
#   closed     no rank waits                          (deadline NEVER, no question)
#   delayed    a rank waits; deadline after _FIRST_S
#   asking     ConnectingRequest sent to all running ranks; repeated every _NEXT_S
#   open       MayLeave sent to all waiting ranks; then closed again
#
# delayed and asking -> open as soon as no rank runs, or the test is being ended.
# asking -> delayed, if all running ranks have answered the current question with "not creating a
# group": the ranks that waited when it was asked leave. An answer says nothing about a rank that
# came later: it may have connected to a rank that answered before it entered new_group().


class LeaveGate:
    """Hold back the ranks of one test that have passed, and release them.

    Args:
        ranks: all ranks of the test.
    """

    def __init__(self, ranks: Sequence[WatchedRank]) -> None:
        self._ranks = ranks
        self._question: int | None = None
        self._asked_for: list[WatchedRank] = []
        self.deadline = NEVER

    def advance(self, is_ending: bool) -> None:
        """Take the next step: release the waiting ranks, or ask the running ones.

        Args:
            is_ending: whether the test is being ended, so that no rank needs to wait.
        """
        waiting = [rank for rank in self._ranks if rank.waits_to_leave]
        if not waiting:
            self._question, self.deadline = None, NEVER
        elif is_ending or not self._running:
            self._release(waiting)
        elif self._is_answered:
            self._release([rank for rank in waiting if rank in self._asked_for])
            if len(waiting) > len(self._asked_for):
                self.deadline = Deadline.after(_FIRST_S)
        elif self.deadline is NEVER:
            self.deadline = Deadline.after(_FIRST_S)
        elif self.deadline.expired:
            self._ask()

    @property
    def _running(self) -> list[WatchedRank]:
        """Return the ranks whose body may still connect a group."""
        # A rank that @kill_rank or @stop_rank hits cannot answer.
        phases = {Phase.START, Phase.BODY}
        return [rank for rank in self._ranks if rank.phase in phases and not rank.sabotage]

    @property
    def _is_answered(self) -> bool:
        """Whether all running ranks have answered the question with "not creating a group"."""
        return self._question is not None and all(
            rank.is_connecting == (self._question, False) for rank in self._running
        )

    def _ask(self) -> None:
        self._question = next(_numbers)
        self._asked_for = [rank for rank in self._ranks if rank.waits_to_leave]
        self.deadline = Deadline.after(_NEXT_S)
        for rank in self._running:
            rank.handle.ask(ConnectingRequest(self._question))

    def _release(self, waiting: Sequence[WatchedRank]) -> None:
        for rank in waiting:
            rank.waits_to_leave = False
            rank.handle.order(frame(MayLeave()))
        self._question, self.deadline = None, NEVER
