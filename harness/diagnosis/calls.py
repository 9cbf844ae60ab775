"""Collectives, their groups and tensors, and what a rank waits in, in words."""

from __future__ import annotations

from collections.abc import Sequence

from harness.diagnosis.words import rank_list
from harness.model.evidence import Snapshot

#: What torch and its users call the groups that have no description.
UNDESCRIBED = frozenset({"", "undefined"})
_DEFAULT = "default_pg"


def tensors_text(sizes: Sequence[Sequence[int]], dtypes: Sequence[str]) -> str:
    """`float32 [4, 2], int64 []`."""
    pairs = zip(dtypes, sizes, strict=False)
    return ", ".join(f"{dtype} {list(size)}" for dtype, size in pairs)


def group_label(name: str, description: str) -> str:
    """Return a readable, unique label of a process group.

    Args:
        name: torch's name for it, usually a number.
        description: what torch or the user calls it.
    """
    if description in UNDESCRIBED:
        return name
    return description if description == _DEFAULT else f"{description} ({name})"


def awaited(snapshot: Snapshot) -> str:
    """Return the call that a rank waits in, and for how long if that is known."""
    assert snapshot.waiting is not None
    pending = snapshot.pending
    if pending:
        longest = max(call.waited_s for call in pending)
        names = ", ".join(dict.fromkeys(f"{call.op} ({call.backend})" for call in pending))
        return f"{names} for {longest:.1f} s"
    peers = snapshot.waiting.peers
    if snapshot.waiting.kind in {"send", "recv"}:
        towards = "to" if snapshot.waiting.kind == "send" else "from"
        whom = rank_list(peers) if peers else "any rank"
        return f"{snapshot.waiting.call} {towards} {whom}"
    return snapshot.waiting.call
