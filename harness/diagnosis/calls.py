"""Format collectives, process groups, tensors and the call that a rank waits in."""

from __future__ import annotations

from collections.abc import Sequence

from harness.diagnosis.words import rank_list
from harness.model.communication import Call
from harness.model.evidence import Snapshot

#: Descriptions that say nothing; `new_group()` without `group_desc` uses "undefined" (torch 2.13).
UNDESCRIBED = frozenset({"", "undefined"})
#: torch's description of the default process group; there is one of them, so it needs no number.
_DEFAULT = "default_pg"
# A reader compares the first tensors of a list.
_MAX_TENSORS = 4


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


def detail_text(call: Call) -> str:
    """Return the reduction and the root (its rank in the group): `MAX`, `root 1`, `SUM root 0`."""
    root = "" if call.root is None else f"root {call.root}"
    return " ".join(filter(None, (call.reduction, root)))


def call_text(call: Call) -> str:
    """`all_reduce MAX float32 [4]`; `send to rank 1 of the group, tag 3, float32 [4]`."""
    parts = [call.op, detail_text(call), call.detail]
    if call.is_p2p:
        towards = "to" if call.op == "send" else "from"
        parts.append(f"{towards} any" if call.peer is None else f"{towards} {call.peer}")
        parts.append(f"tag {call.tag}")
    if call.gives:
        parts.append(_tensors(call.gives, call.dtypes))
    if call.takes:
        arrow = "-> " if call.gives else ""
        parts.append(f"{arrow}{_tensors(call.takes, call.take_dtypes)}")
    for name, splits in (("sends", call.gives_splits), ("takes", call.takes_splits)):
        if splits:
            parts.append(f"{name} {list(splits)}")
    return " ".join(filter(None, parts))


def _tensors(sizes: Sequence[Sequence[int]], dtypes: Sequence[str]) -> str:
    text = tensors_text(sizes[:_MAX_TENSORS], dtypes)
    more = len(sizes) - _MAX_TENSORS
    return f"{text}, and {more} more" if more > 0 else text
