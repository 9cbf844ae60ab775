"""Collect evidence of what ranks are doing, from inside and from outside.

rank …                                   evidence
runs Python code, or waits in torch      its answer to SnapshotRequest: stacks, collectives
holds the GIL in native code             stacks from faulthandler, on STACKS_SIGNAL
crashed                                  stacks in its stderr, from faulthandler
any of the above, with py-spy            also native frames
stopped, or in uninterruptible sleep     the process state only
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from harness.diagnosis.stacks import fatal_dump, parse_faulthandler
from harness.model import settings
from harness.model.evidence import Evidence, ThreadStack
from harness.model.outcome import Ended, Killed, Passed
from harness.model.phase import Phase
from harness.model.rank_report import RankReport
from harness.ranks.messages import SnapshotRequest
from harness.ranks.outside_view import InspectionRequest
from harness.ranks.watch.watched_rank import WatchedRank
from harness.ranks.world import World

# py-spy takes half a second per process with torch loaded, and stops the process meanwhile. So a
# large world that hangs is inspected in part; its ranks usually hang in few places.
_MAX_NATIVE = 4
# How many lines of stderr to search for a crash dump. It has up to 100 frames for each thread
# (CPython's limit), so this is enough for five threads with the deepest stacks.
_CRASH_LINES = 500
# How many lines of each stream a report can show.
_SHOWN_LINES = 20


_rounds = itertools.count(1)


class EvidenceCollector:
    """Collect evidence about the ranks of one world."""

    def __init__(self, ranks: Sequence[WatchedRank], world: World) -> None:
        self._ranks = ranks
        self._world = world
        self._round = 0
        self._stacks: dict[int, tuple[ThreadStack, ...]] = {}
        self._native: dict[int, tuple[str, ...]] = {}
        self._states: dict[int, str] = {}

    def ask(self, full: bool) -> int:
        """Ask every living rank for a snapshot; return the number of this round.

        Args:
            full: also ask where each collective was issued.
        """
        # Round numbers are unique in the process: a reused rank may answer late, in the next test.
        self._round = next(_rounds)
        question = SnapshotRequest(self._round, full, spans=full and settings.TIMELINE.value())
        for rank in self._living():
            rank.handle.ask(question)
        return self._round

    def all_have_answered(self, round_number: int) -> bool:
        return all(rank.answered_round >= round_number for rank in self._living())

    def inspect_from_outside(self, deep: bool) -> None:
        """Inspect the living ranks without their help.

        Args:
            deep: also take native stacks, which takes about a second.
        """
        living = self._living()
        mute = [rank for rank in living if not self._has_answered(rank)]
        # The native stack of a rank that waits in a collective adds nothing: it waits in gloo.
        answering = [r for r in living if r not in mute and not (r.snapshot and r.snapshot.waiting)]
        below = [*mute, *answering][:_MAX_NATIVE] if deep else []
        requests = {
            rank.rank: InspectionRequest(
                stacks=rank in mute and rank.phase_before_end is not Phase.START,
                native=rank in below,
            )
            for rank in living
        }
        for number, inspection in self._world.inspect(requests).items():
            self._states[number] = inspection.state
            self._native[number] = inspection.native
            if requests[number].stacks:
                self._stacks[number] = parse_faulthandler(inspection.written)

    def reports(self) -> tuple[RankReport, ...]:
        """Return all evidence about the ranks, once they have their outcomes."""
        if all(isinstance(rank.outcome, Passed) for rank in self._ranks):
            return tuple(
                RankReport(
                    rank.rank,
                    Passed(),
                    rank.at_s,
                    rank.handle.pid,
                    communication=rank.communication,
                )
                for rank in self._ranks
            )
        return tuple(self._report(rank) for rank in self._ranks)

    def _report(self, rank: WatchedRank) -> RankReport:
        outcome = rank.outcome or Ended()
        stdout, stderr = (
            self._world.logs.tail(rank.rank, stream, _CRASH_LINES)
            for stream in ("stdout", "stderr")
        )
        stacks = self._stacks.get(rank.rank, ())
        if isinstance(outcome, Killed):
            dump, lines = fatal_dump(stderr.lines)
            stderr = stderr.with_lines(lines)
            stacks = parse_faulthandler(dump, current_first=True)
        evidence = Evidence(
            snapshot=rank.snapshot,
            stacks=stacks,
            state=self._states.get(rank.rank, ""),
            native=self._native.get(rank.rank, ()),
            answered=self._has_answered(rank),
        )
        return RankReport(
            rank.rank,
            outcome,
            rank.at_s,
            rank.handle.pid,
            stdout.last(_SHOWN_LINES),
            stderr.last(_SHOWN_LINES),
            evidence,
            rank.handle.host,
            rank.handle.local_rank,
            rank.communication,
        )

    def _living(self) -> list[WatchedRank]:
        return [rank for rank in self._ranks if rank.alive]

    def _has_answered(self, rank: WatchedRank) -> bool:
        return rank.answered_round >= self._round
