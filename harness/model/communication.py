"""What one rank communicated during a test: the operations it called, in order.

A rank records it (`harness/ranks/call_recorder.py`); the parent compares the records of all ranks
(`harness/diagnosis/audit.py`).
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.model.evidence import Group
from harness.model.outcome import Place

#: The levels of the audit, from nothing to everything.
OFF, RECORD, FULL = "off", "record", "full"
AUDIT_LEVELS = (OFF, RECORD, FULL)

#: The name under which calls of `new_group` are recorded: all ranks of the world make them.
WORLD = ""


def group_key(name: str, members: tuple[int, ...]) -> str:
    """Return the key of a group in records: its name and members, equal on all ranks."""
    return f"{name}@{zlib.crc32(repr(members).encode()):x}"


def name_of_key(key: str) -> str:
    """Return torch's name of a group."""
    return key.partition("@")[0]


Sizes = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Call:
    """One operation of c10d, as one rank calls it. Equal calls of a rank are recorded once.

    Attributes:
        group: the key of the process group (`group_key`); `WORLD` for `new_group`.
        op: the function of `torch.distributed`: "all_reduce", "send".
        gives, dtypes: sizes and dtypes of the tensors that the rank contributes.
        takes: sizes of the tensors that the rank receives into, if they are other tensors; None
            if unknown.
        take_dtypes: their dtypes.
        reduction: "SUM", "MAX", …; empty if the operation has none, or if it is unknown.
        root: the root's rank in the group; None if the operation has none, or if it is unknown.
        peer: for "send" and "recv", the other side's rank in the group; None for any.
        tag: the tag of a "send" or "recv".
        gives_splits, takes_splits: of `all_to_all_single`, in rows; empty for equal parts.
        detail: anything else that must be equal on all ranks, as text.
        where: the line of the user's code that made the call; None if unknown.
    """

    group: str
    op: str
    gives: Sizes = ()
    dtypes: tuple[str, ...] = ()
    takes: Sizes | None = ()
    take_dtypes: tuple[str, ...] = ()
    reduction: str = ""
    root: int | None = None
    peer: int | None = None
    tag: int = 0
    gives_splits: tuple[int, ...] = ()
    takes_splits: tuple[int, ...] = ()
    detail: str = ""
    where: Place | None = None

    @property
    def is_p2p(self) -> bool:
        return self.op in {"send", "recv"}


@dataclass(frozen=True, slots=True)
class LocalFault:
    """A fault in a rank's communication that needs no comparison with other ranks.

    Attributes:
        problem: what is wrong, as a sentence without the rank.
        position: the position in the record's `order` of the call that it concerns; -1 for none.
        where: the line of the user's code that is wrong, if it is not the call's own.
    """

    problem: str
    position: int = -1
    where: Place | None = None


@dataclass(frozen=True, slots=True)
class CommunicationRecord:
    """Everything that a rank communicated in one test.

    Attributes:
        calls: the distinct calls.
        order: for each operation, in the order of the program, its index in `calls`.
        threads: the thread of each operation; empty if one thread made all of them.
        failed: the positions in `order` of operations that raised an exception.
        groups: the process groups that the rank used, by key.
        faults: what the rank itself found.
        missing: why the record is incomplete; empty if it is complete.
        worlds: the rank's number and the number of ranks, in each default group that it had.
    """

    calls: tuple[Call, ...] = ()
    order: tuple[int, ...] = ()
    threads: tuple[int, ...] = ()
    failed: tuple[int, ...] = ()
    groups: Mapping[str, Group] = field(default_factory=dict)
    faults: tuple[LocalFault, ...] = ()
    missing: str = ""
    worlds: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class CallOfRank:
    """A row of a fault: the call that a rank made, and a remark; None if it made none."""

    rank: int
    call: Call | None
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something in the ranks' communication that is wrong.

    Attributes:
        problem: what is wrong, in one line.
        rows: the calls concerned, by rank.
    """

    problem: str
    rows: tuple[CallOfRank, ...] = ()

    @property
    def ranks(self) -> tuple[int, ...]:
        return tuple(sorted({row.rank for row in self.rows}))
