"""What the thread ranks of a world have called on their process groups, and where they part.

torch's process group of threads takes whatever the first rank calls for what all of them call. Here
every call is written down first, and the rank whose call is another than its peers' is told so.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field, replace

from harness.diagnosis.calls import UNDESCRIBED, group_label, tensors_text
from harness.model.clock import now
from harness.model.errors import MismatchedCollectivesError
from harness.model.evidence import Collective, Group, Stack
from harness.model.timeline import CollectiveSpan

#: With what torch's group of threads ends a thread whose peer has failed, as SystemExit's code.
TERMINATED = "Test termination event occurs."

# As many as a timeline could show, and of these the report of a failure.
_KEPT, _REPORTED = 200, 20


@dataclass(frozen=True, slots=True)
class Call:
    """One collective as one rank calls it.

    Attributes:
        op: the operation: `all_reduce`.
        sizes, dtypes: of the tensors that the rank brings.
        detail: what else must be the same on every rank, as text: the reduction, the root.
        same: what of the sizes must be the same on every rank too.
    """

    op: str
    sizes: tuple[tuple[int, ...], ...] = ()
    dtypes: tuple[str, ...] = ()
    detail: str = ""
    same: Hashable = ()

    @property
    def agreed(self) -> Hashable:
        """What must be the same on every rank of the group."""
        return self.op, self.detail, self.dtypes, self.same

    def __str__(self) -> str:
        brought = (tensors_text(self.sizes, self.dtypes), self.detail)
        return f"{self.op}({', '.join(filter(None, brought))})"


@dataclass
class _Entry:
    collective: Collective
    issued_s: float
    ended_s: float | None = None


@dataclass
class _Round:
    """One collective of a group: who has come to it, and with what."""

    rank: int
    call: Call
    came: set[int] = field(default_factory=set)


class Ledger:
    """The calls of all ranks of one world. May be used from all of their threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rounds: dict[tuple[int, int], _Round] = {}
        self._seqs: dict[tuple[int, int], int] = {}
        self._entries: dict[int, deque[_Entry]] = {}
        self._labels: dict[int, str] = {}
        self.groups: dict[str, Group] = {}

    def open(self, number: int, name: str, group: Group) -> None:
        """Note that a group is used.

        Args:
            number: what distinguishes it from all others.
            name: torch's name for it, which may be that of a group before it.
            group: its members and description.
        """
        with self._lock:
            if number not in self._labels:
                self._labels[number] = f"{name} ({number})" if name in self.groups else name
                self.groups[self._labels[number]] = group

    def begin(self, number: int, rank: int, call: Call, frames: Stack) -> _Entry:
        """Note that a rank calls a collective; returns what `end` takes.

        Args:
            number: of the group.
            rank: the rank, as numbered in the world.
            call: what it calls.
            frames: from where, innermost first.

        Raises:
            MismatchedCollectivesError: if a peer has called something else in its place.
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
                sizes=call.sizes,
                dtypes=call.dtypes,
                pending=True,
                waited_s=0.0,
                timeout_s=float("inf"),
                frames=frames,
            )
            entry = _Entry(collective, now())
            self._entries.setdefault(rank, deque(maxlen=_KEPT)).append(entry)
            first = self._rounds.setdefault((number, seq), _Round(rank, call))
            first.came.add(rank)
            if len(first.came) == len(self.groups[name].ranks):
                del self._rounds[number, seq]
        if first.call.agreed != call.agreed:
            raise MismatchedCollectivesError(
                f"collective {seq} of group {self._shown(name)!r} is {call} on rank {rank}, "
                f"but {first.call} on rank {first.rank}"
            )
        return entry

    def _shown(self, name: str) -> str:
        description = self.groups[name].description
        return name if description in UNDESCRIBED else description

    def end(self, entry: _Entry) -> None:
        """Note that a collective has been completed on the rank that began it."""
        with self._lock:
            entry.collective = replace(entry.collective, pending=False)
            entry.ended_s = now()

    def history(self, rank: int) -> tuple[Collective, ...]:
        """The last collectives that a rank has called, in order."""
        with self._lock:
            return tuple(
                replace(entry.collective, waited_s=now() - entry.issued_s)
                for entry in list(self._entries.get(rank, ()))[-_REPORTED:]
            )

    def spans(self, rank: int) -> tuple[CollectiveSpan, ...]:
        """The same, more of them, over time."""
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
