"""Format collectives, process groups, tensors and the call that a rank waits in."""

from __future__ import annotations

from collections.abc import Sequence

from harness.diagnosis.words import rank_list
from harness.model.evidence import Snapshot

#: Descriptions that say nothing; `new_group()` without `group_desc` uses "undefined" (torch 2.13).
UNDESCRIBED = frozenset({"", "undefined"})
#: torch's description of the default process group; there is one of them, so it needs no number.
_DEFAULT = "default_pg"


def tensors_text(sizes: Sequence[Sequence[int]], dtypes: Sequence[str]) -> str:
    """Return dtypes and sizes as text: `float32 [4, 2], int64 []`."""
    pairs = zip(dtypes, sizes, strict=False)
    return ", ".join(f"{dtype} {list(size)}" for dtype, size in pairs)


def group_label(name: str, description: str) -> str:
    """Return a readable, unique label for a process group: its name alone if that is all it has.

    Args:
        name: torch's name for the group, usually a number.
        description: the `group_desc` that torch or the user gave it.
    """
    if description in UNDESCRIBED:
        return name
    return description if description == _DEFAULT else f"{description} ({name})"


def awaited(snapshot: Snapshot) -> str:
    """Return the call that a rank waits in, and how long it has waited if that is known."""
    assert snapshot.waiting is not None
    pending = snapshot.pending
    if pending:
        # With async_op=True several can be pending. The recorder does not say which one it is.
        longest = max(call.waited_s for call in pending)
        names = ", ".join(dict.fromkeys(f"{call.op} ({call.backend})" for call in pending))
        return f"{names} for {longest:.1f} s"
    peers = snapshot.waiting.peers
    if snapshot.waiting.kind in {"send", "recv"}:
        towards = "to" if snapshot.waiting.kind == "send" else "from"
        whom = rank_list(peers) if peers else "any rank"
        return f"{snapshot.waiting.call} {towards} {whom}"
    return snapshot.waiting.call
