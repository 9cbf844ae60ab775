"""Notices that no rank of a world can go on, long before the test's deadline.

When nothing has been heard for a while, the ranks are asked for snapshots; if these say that the
world is stuck, they are asked again, and if nothing has moved in between, it is. The deciding is in
`harness.diagnosis.deadlock`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.diagnosis import deadlock
from harness.model.clock import NEVER, Deadline, now
from harness.model.evidence import Snapshot
from harness.ranks.watch.evidence import EvidenceCollector
from harness.ranks.watch.watched_rank import Phase, WatchedRank

# A rank that holds the GIL does not answer; the question is then put again later.
_ANSWER_S = 1.0
# Tests that run long are asked less and less often.
_SLOWEST_S = 5.0
# A message that is under way is not a deadlock; gloo's point-to-point messages leave no record, so
# they get the benefit of the doubt more often.
_NEEDED_SIGHTINGS = 2
_NEEDED_FOR_MESSAGES = 4


class DeadlockWatch:
    """Asks, compares, and says when a world is stuck.

    Args:
        ranks: the ranks of the world.
        interrogator: asks them.
        confirm_s: seconds between two looks; 0 never looks.
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
        """Something has happened, so the world is not stuck: begin anew."""
        self._round = None
        self._stuck_count = 0
        self._interval_s = self._confirm_s
        self.deadline = Deadline.after(self._confirm_s) if self._confirm_s else NEVER

    def is_stuck(self, remaining_s: float) -> bool:
        """Take the next step, if it is time for one; True once the world is certainly stuck.

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
        if self.deadline.expired:  # no answer: somebody is busy
            self._wait(stuck=False)
        return False

    def _ask(self) -> None:
        if any(rank.phase is Phase.STARTING for rank in self._ranks):
            self._wait(stuck=False)
            return
        self._round = self._evidence.ask(full=False)
        self.deadline = Deadline.after(_ANSWER_S)

    def _compare(self, remaining_s: float) -> bool:
        living = _snapshots(r for r in self._ranks if r.phase is Phase.RUNNING)
        finished = _snapshots(r for r in self._ranks if r.phase is not Phase.RUNNING)
        stuck = deadlock.is_stuck(living, finished, len(self._ranks), remaining_s)
        if stuck and self._stuck_count:
            interval_s = now() - self._last_s
            stuck = deadlock.has_not_moved(self._last, living, interval_s)
        self._last, self._last_s = living, now()
        self._wait(stuck)
        return self._stuck_count >= _needed(living)

    def _wait(self, stuck: bool) -> None:
        """Look again after the confirmation time if it looked stuck, else ever less often."""
        self._round = None
        self._stuck_count = self._stuck_count + 1 if stuck else 0
        self._interval_s = self._confirm_s if stuck else min(self._interval_s * 1.5, _SLOWEST_S)
        self.deadline = Deadline.after(self._interval_s)


def _snapshots(ranks: Iterable[WatchedRank]) -> dict[int, Snapshot]:
    return {rank.rank: rank.snapshot or Snapshot() for rank in ranks}


def _needed(living: dict[int, Snapshot]) -> int:
    kinds = {s.waiting.kind for s in living.values() if s.waiting is not None}
    return _NEEDED_FOR_MESSAGES if kinds & {"send", "recv"} else _NEEDED_SIGHTINGS
