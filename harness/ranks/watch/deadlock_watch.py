"""Detect that no rank of a world can make progress, long before the test's deadline.

When no rank has sent anything for a while, the watch asks all ranks for snapshots. If these say
that the world is stuck, it asks again. If nothing has moved in between, the world is deadlocked.
`harness.diagnosis.deadlock` decides what "stuck" and "moved" mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.diagnosis import deadlock
from harness.model.clock import NEVER, Deadline, now
from harness.model.evidence import Snapshot
from harness.model.phase import Phase
from harness.ranks.watch.evidence import EvidenceCollector
from harness.ranks.watch.watched_rank import WatchedRank

# How long ranks may take to answer. A rank that holds the GIL in native code does not answer in
# time; it is busy, so the world is not stuck, and the watch asks again later.
_ANSWER_S = 1.0
# The interval between two looks grows up to this limit: a snapshot costs each rank a millisecond,
# and a long test that computes need not pay that every second.
_MAX_INTERVAL_S = 5.0
# How many looks in a row must find the same stuck world. At one look, a rank may be about to return
# from its call. For send and recv, more looks are needed: gloo does not record point-to-point
# messages in the flight recorder (torch 2.13), so a message in flight cannot be seen.
_NEEDED_LOOKS = 2
_NEEDED_FOR_MESSAGES = 4


# States and transitions. `deadline` is when the next one is due.
#
#   quiet    (_round is None)   deadline expired      -> asking: send SnapshotRequests
#   asking   (_round is set)    all ranks answered    -> quiet: compare, adjust _stuck_count
#   asking                      deadline expired      -> quiet: a rank is busy, so not stuck
#   any                         reset(): a message    -> quiet, _stuck_count = 0
#
# The world is deadlocked once `_stuck_count` reaches `_needed()`. A look at which the world is not
# stuck sets it to 0.


class DeadlockWatch:
    """Ask the ranks of a world for snapshots, compare them, and report a deadlock.

    Args:
        ranks: the ranks of the world.
        evidence: sends the requests.
        confirm_s: seconds between two looks at a stuck world; 0 turns the watch off.
    """

    def __init__(
        self, ranks: Sequence[WatchedRank], evidence: EvidenceCollector, confirm_s: float
    ) -> None:
        self._ranks = ranks
        self._evidence = evidence
        self._confirm_s = confirm_s
        self._round: int | None = None
        self._last: dict[int, Snapshot] = {}
        self._last_s = 0.0
        self._stuck_count = 0
        self._interval_s = confirm_s
        self.deadline = NEVER
        self.reset()

    def reset(self) -> None:
        """Start over, since a rank has made progress."""
        self._round = None
        self._stuck_count = 0
        self._interval_s = self._confirm_s
        self.deadline = Deadline.after(self._confirm_s) if self._confirm_s else NEVER

    def is_stuck(self, remaining_s: float) -> bool:
        """Take the next step if it is due; return True once the world is certainly stuck.

        Args:
            remaining_s: seconds until the test times out anyway.
        """
        if self._round is None:
            if self.deadline.expired:
                self._ask()
            return False
        if self._evidence.all_have_answered(self._round):
            self._round = None
            return self._compare(remaining_s)
        if self.deadline.expired:  # a rank has not answered: it is busy
            self._wait(stuck=False)
        return False

    def _ask(self) -> None:
        # A rank that is starting imports modules and may not answer for seconds.
        if any(rank.phase is Phase.START for rank in self._ranks):
            self._wait(stuck=False)
            return
        self._round = self._evidence.ask(full=False)
        self.deadline = Deadline.after(_ANSWER_S)

    def _compare(self, remaining_s: float) -> bool:
        living = _snapshots(r for r in self._ranks if r.phase is Phase.BODY)
        finished = _snapshots(r for r in self._ranks if r.phase is not Phase.BODY)
        # Two conditions: no call can complete (is_stuck), and no rank has moved or used CPU since
        # the last look (has_not_moved).
        stuck = deadlock.is_stuck(living, finished, len(self._ranks), remaining_s)
        if stuck and self._stuck_count:
            interval_s = now() - self._last_s
            stuck = deadlock.has_not_moved(self._last, living, interval_s)
        self._last, self._last_s = living, now()
        self._wait(stuck)
        return self._stuck_count >= _needed(living)

    def _wait(self, stuck: bool) -> None:
        """Schedule the next look: soon if the world looked stuck, otherwise later each time."""
        self._round = None
        self._stuck_count = self._stuck_count + 1 if stuck else 0
        later_s = min(self._interval_s * 1.5, _MAX_INTERVAL_S)
        self._interval_s = self._confirm_s if stuck else later_s
        self.deadline = Deadline.after(self._interval_s)


def _snapshots(ranks: Iterable[WatchedRank]) -> dict[int, Snapshot]:
    return {rank.rank: rank.snapshot or Snapshot() for rank in ranks}


def _needed(living: dict[int, Snapshot]) -> int:
    kinds = {s.waiting.kind for s in living.values() if s.waiting is not None}
    return _NEEDED_FOR_MESSAGES if kinds & {"send", "recv"} else _NEEDED_LOOKS
