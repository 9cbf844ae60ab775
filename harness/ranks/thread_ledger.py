"""What the thread ranks of a world have called on their process groups, and where they part.

torch's process group of threads takes whatever the first rank calls for what all of them call. Here
every call is written down first, and the rank whose call is another than its peers' is told so.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from typing import Any

from harness.model.clock import now
from harness.model.errors import MismatchedCollectivesError
from harness.model.evidence import Collective, Group, Stack

# As many as the report of a failure could show.
_KEPT = 20


@dataclass(frozen=True, slots=True)
class Call:
    """One collective as one rank calls it.

    Attributes:
        op: the operation: `all_reduce`.
        sizes, dtypes: of the tensors that the rank brings.
        detail: what else must be the same on every rank, as text: the reduction, the root.
        same_sizes: whether the sizes must be the same on every rank too.
    """

    op: str
    sizes: tuple[tuple[int, ...], ...] = ()
    dtypes: tuple[str, ...] = ()
    detail: str = ""
    same_sizes: bool = False

    @property
    def agreed(self) -> Hashable:
        """What must be the same on every rank of the group."""
        return self.op, self.detail, self.dtypes, self.sizes if self.same_sizes else ()

    def __str__(self) -> str:
        tensors = [f"{d} {list(s)}" for d, s in zip(self.dtypes, self.sizes, strict=False)]
        return f"{self.op}({', '.join([*tensors, *([self.detail] if self.detail else [])])})"


@dataclass
class _Entry:
    collective: Collective
    issued_s: float


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
        self._rounds: dict[tuple[Hashable, int], _Round] = {}
        self._seqs: dict[tuple[Hashable, int], int] = {}
        self._entries: dict[int, deque[_Entry]] = {}
        self._generations: dict[tuple[str, int], int] = {}
        self.groups: dict[str, Group] = {}

    def new_group(self, name: str, rank: int, group: Group) -> tuple[str, int]:
        """Note that a rank uses a group for the first time; returns the key for its calls.

        A name may be used again once its group has been destroyed, so the key says which one it is.
        """
        with self._lock:
            number = self._generations.get((name, rank), 0) + 1
            self._generations[name, rank] = number
            self.groups[name] = group
        return name, number

    def begin(self, key: tuple[str, int], rank: int, call: Call, frames: Stack) -> Any:
        """Note that a rank calls a collective; returns what `end` takes.

        Args:
            key: of the group.
            rank: the rank, as numbered in the world.
            call: what it calls.
            frames: from where, innermost first.

        Raises:
            MismatchedCollectivesError: if a peer has called something else in its place.
        """
        name, _ = key
        with self._lock:
            seq = self._seqs.get((key, rank), 0) + 1
            self._seqs[key, rank] = seq
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
            first = self._rounds.setdefault((key, seq), _Round(rank, call))
            first.came.add(rank)
            if len(first.came) == len(self.groups[name].ranks):
                del self._rounds[key, seq]
        if first.call.agreed != call.agreed:
            raise MismatchedCollectivesError(
                f"collective {seq} of group {self._shown(name)!r} is {call} on rank {rank}, "
                f"but {first.call} on rank {first.rank}"
            )
        return entry

    def _shown(self, name: str) -> str:
        description = self.groups[name].description
        return name if description in {"", "undefined"} else description

    def end(self, entry: _Entry) -> None:
        """Note that a collective has been completed on the rank that began it."""
        with self._lock:
            entry.collective = replace(entry.collective, pending=False)

    def history(self, rank: int) -> tuple[Collective, ...]:
        """The last collectives that a rank has called, in order."""
        with self._lock:
            return tuple(
                replace(entry.collective, waited_s=now() - entry.issued_s)
                for entry in self._entries.get(rank, ())
            )
