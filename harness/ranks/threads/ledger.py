"""Record the collectives of thread ranks, and detect where ranks diverge.

torch's process group for threads (torch 2.13) does not compare the calls of its ranks: it runs the
collective that the first rank calls. So each call is recorded here first, and a rank whose call
differs from those of its peers gets an error.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field, replace

from harness.diagnosis.calls import (
    UNDESCRIBED,
    call_text,
    detail_text,
    group_label,
    tensors_text,
)
from harness.diagnosis.matching import disagreement
from harness.model.clock import now
from harness.model.communication import Call
from harness.model.errors import MismatchedCollectivesError
from harness.model.evidence import Collective, Group, Stack
from harness.model.timeline import CollectiveSpan

#: The SystemExit code with which torch's process group for threads ends a thread whose peer has
#: failed (torch 2.13). The text is torch's; thread ranks are recognized by it.
TERMINATED = "Test termination event occurs."

# How many calls to keep per rank, for a timeline; and how many of these a failure report shows.
_KEPT, _REPORTED = 200, 20


@dataclass
class _Entry:
    collective: Collective
    issued_s: float
    ended_s: float | None = None


@dataclass
class _Round:
    """One collective of a group: its first call, the rank that made it, and all ranks so far."""

    rank: int
    call: Call
    callers: set[int] = field(default_factory=set)


# States of a round, the collective with one number in one group:
#
#   absent   no rank has called it
#   open     begin(): some ranks have; each new call is compared with the first
#   broken   a call differs: begin() raises in that rank; its peers wait until they are released
#   done     every member has called it; the round is removed
#
# An entry, one rank's call in a round, is pending from begin() to end().


class Ledger:
    """The calls of all ranks of one world. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rounds: dict[tuple[int, int], _Round] = {}
        self._seqs: dict[tuple[int, int], int] = {}
        self._entries: dict[int, deque[_Entry]] = {}
        self._labels: dict[int, str] = {}
        self.groups: dict[str, Group] = {}

    def open(self, number: int, name: str, group: Group) -> None:
        """Record a new group.

        Args:
            number: the unique number of the group.
            name: torch's name for it, which an earlier group may have had.
            group: its members and description.
        """
        with self._lock:
            if number not in self._labels:
                self._labels[number] = f"{name} ({number})" if name in self.groups else name
                self.groups[self._labels[number]] = group

    def begin(self, number: int, rank: int, call: Call, frames: Stack) -> _Entry:
        """Record that a rank calls a collective; return an entry to pass to `end`.

        Args:
            number: the number of the group.
            rank: the rank in the world.
            call: the call.
            frames: the calling frames, innermost first.

        Raises:
            MismatchedCollectivesError: if a peer's call with this number differs.
        """
        with self._lock:
            name = self._labels[number]
            seq = self._seqs.get((number, rank), 0) + 1
            self._seqs[number, rank] = seq
            collective = Collective(
                group=name,
                seq=seq,
                op=call.op,
                backend="threaded",
                sizes=call.gives,
                dtypes=call.dtypes,
                pending=True,
                waited_s=0.0,
                timeout_s=float("inf"),
                frames=frames,
                detail=detail_text(call),
            )
            entry = _Entry(collective, now())
            self._entries.setdefault(rank, deque(maxlen=_KEPT)).append(entry)
            first = self._rounds.setdefault((number, seq), _Round(rank, call))
            first.callers.add(rank)
            if len(first.callers) == len(self.groups[name].ranks):
                del self._rounds[number, seq]
        problem = disagreement([first.call, call])
        if problem:
            raise MismatchedCollectivesError(
                f"collective {seq} of group {self._shown(name)!r}: {problem}: "
                f"{call_text(call)} on rank {rank}, but {call_text(first.call)} on rank "
                f"{first.rank}"
            )
        return entry

    def _shown(self, name: str) -> str:
        description = self.groups[name].description
        return name if description in UNDESCRIBED else description

    def end(self, entry: _Entry) -> None:
        """Record that a collective has completed on the rank that called it."""
        with self._lock:
            entry.collective = replace(entry.collective, pending=False)
            entry.ended_s = now()

    def history(self, rank: int) -> tuple[Collective, ...]:
        """Return the last collectives that a rank has called, in order."""
        with self._lock:
            return tuple(
                replace(entry.collective, waited_s=now() - entry.issued_s)
                for entry in list(self._entries.get(rank, ()))[-_REPORTED:]
            )

    def spans(self, rank: int) -> tuple[CollectiveSpan, ...]:
        """Return the last collectives of a rank with their times, for a timeline."""
        with self._lock:
            return tuple(self._span(entry) for entry in self._entries.get(rank, ()))

    def _span(self, entry: _Entry) -> CollectiveSpan:
        call = entry.collective
        return CollectiveSpan(
            op=call.op,
            group=group_label(call.group, self.groups[call.group].description),
            seq=call.seq,
            shapes=tensors_text(call.sizes, call.dtypes),
            began_s=entry.issued_s,
            ended_s=entry.ended_s,
            pending=call.pending,
        )
