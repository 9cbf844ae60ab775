"""Say whether the calls of one collective fit together, by the rules of its operation.

Everywhere: the operation, the root, the reduction and the dtypes are equal. Sizes:

    all_reduce, reduce                  equal shapes
    broadcast, all_gather_into_tensor,  equal numbers of elements
    reduce_scatter_tensor
    all_gather                          what a rank gives is what each rank takes from it
    gather, scatter                     the same, between the root and each rank
    reduce_scatter                      what each rank gives to a rank is what it takes
    all_to_all                          the same, for each pair

What a record does not say (the flight recorder knows no roots, for example) is not compared.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.model.communication import Call, Sizes

_SAME_SHAPES = frozenset({"all_reduce", "all_reduce_coalesced", "reduce"})
_SAME_NUMBERS = frozenset(
    {
        "broadcast",
        "all_gather_into_tensor",
        "all_gather_single",
        "all_gather_into_tensor_coalesced",
        "all_gather_single_coalesced",
        "reduce_scatter",
        "reduce_scatter_tensor",
        "reduce_scatter_single",
        "reduce_scatter_tensor_coalesced",
        "reduce_scatter_single_coalesced",
    }
)


def mismatch(calls: Sequence[Call]) -> str:
    """Return what is wrong with the calls of one collective; empty if they fit together.

    Args:
        calls: one of each member, by its rank in the group.
    """
    return disagreement(calls) or _parts_differ(calls)


def disagreement(calls: Sequence[Call]) -> str:
    """Return what must be equal in these calls of one collective, but is not; empty if nothing.

    Args:
        calls: of any members of the group.
    """
    first = calls[0]
    if len({call.op for call in calls}) > 1:
        return "the ranks call different operations"
    if len({call.detail for call in calls}) > 1:
        return "the ranks pass different arguments"
    if len({call.root for call in calls if call.root is not None}) > 1:
        return "the roots differ"
    if len({call.reduction for call in calls if call.reduction}) > 1:
        return "the reductions differ"
    if _dtypes_differ(calls):
        return "the dtypes differ"
    if first.op in _SAME_SHAPES and len({call.gives for call in calls}) > 1:
        return "the shapes differ"
    counts = {tuple(numel(size) for size in call.gives) for call in calls}
    if first.op in _SAME_NUMBERS and len(counts) > 1:
        return "the numbers of elements differ"
    return ""


def _dtypes_differ(calls: Sequence[Call]) -> bool:
    if calls[0].op.endswith("coalesced"):
        return len({call.dtypes for call in calls}) > 1
    used = {dtype for call in calls for dtype in (*call.dtypes, *call.take_dtypes)}
    return len(used) > 1


def _parts_differ(calls: Sequence[Call]) -> str:
    """Compare what each rank gives to each rank with what that one takes from it."""
    pairs = _PAIRS.get(calls[0].op)
    if pairs is None:
        return ""
    sent, received = pairs(calls)
    for (source, destination), given in sent.items():
        expected = received.get((source, destination))
        if expected is not None and expected != given:
            return (
                f"rank {source} of the group gives {given} elements, but rank {destination} "
                f"takes {expected}"
            )
    return ""


_Numbers = dict[tuple[int, int], int]


def _all_gather(calls: Sequence[Call]) -> tuple[_Numbers, _Numbers]:
    sent: _Numbers = {}
    received: _Numbers = {}
    for rank, call in enumerate(calls):
        if len(call.gives) == 1:
            sent.update({(rank, other): numel(call.gives[0]) for other in range(len(calls))})
        _take_from_each(received, rank, call.takes, len(calls))
    return sent, received


def _gather(calls: Sequence[Call]) -> tuple[_Numbers, _Numbers]:
    root = calls[0].root
    if root is None or not 0 <= root < len(calls):
        return {}, {}
    sent = {(r, root): numel(c.gives[0]) for r, c in enumerate(calls) if len(c.gives) == 1}
    received: _Numbers = {}
    _take_from_each(received, root, calls[root].takes, len(calls))
    return sent, received


def _scatter(calls: Sequence[Call]) -> tuple[_Numbers, _Numbers]:
    root = calls[0].root
    if root is None or not 0 <= root < len(calls):
        return {}, {}
    sent: _Numbers = {}
    _give_to_each(sent, root, calls[root].gives, len(calls))
    received = {
        (root, r): numel(c.takes[0]) for r, c in enumerate(calls) if c.takes and len(c.takes) == 1
    }
    return sent, received


def _reduce_scatter(calls: Sequence[Call]) -> tuple[_Numbers, _Numbers]:
    sent: _Numbers = {}
    received: _Numbers = {}
    for rank, call in enumerate(calls):
        _give_to_each(sent, rank, call.gives, len(calls))
        if call.takes and len(call.takes) == 1:
            received.update({(other, rank): numel(call.takes[0]) for other in range(len(calls))})
    return sent, received


def _all_to_all(calls: Sequence[Call]) -> tuple[_Numbers, _Numbers]:
    sent: _Numbers = {}
    received: _Numbers = {}
    for rank, call in enumerate(calls):
        _give_to_each(sent, rank, call.gives, len(calls))
        _take_from_each(received, rank, call.takes, len(calls))
    return sent, received


def _all_to_all_single(calls: Sequence[Call]) -> tuple[_Numbers, _Numbers]:
    sent: _Numbers = {}
    received: _Numbers = {}
    for rank, call in enumerate(calls):
        for sizes, splits, into, is_sent in (
            (call.gives, call.gives_splits, sent, True),
            (call.takes, call.takes_splits, received, False),
        ):
            parts = _parts(sizes, splits, len(calls))
            for other, part in enumerate(parts):
                into[(rank, other) if is_sent else (other, rank)] = part
    return sent, received


def _parts(sizes: Sizes | None, splits: tuple[int, ...], members: int) -> list[int]:
    if not sizes or not sizes[0]:
        return []
    rows, elements = sizes[0][0], numel(sizes[0])
    if not splits:
        return [elements // members] * members
    width = elements // rows if rows else 0
    return [split * width for split in splits]


def _give_to_each(sent: _Numbers, rank: int, gives: Sizes, members: int) -> None:
    if len(gives) == members:
        sent.update({(rank, other): numel(size) for other, size in enumerate(gives)})


def _take_from_each(received: _Numbers, rank: int, takes: Sizes | None, members: int) -> None:
    if takes is not None and len(takes) == members:
        received.update({(other, rank): numel(size) for other, size in enumerate(takes)})


_PAIRS = {
    "all_gather": _all_gather,
    "gather": _gather,
    "scatter": _scatter,
    "reduce_scatter": _reduce_scatter,
    "all_to_all": _all_to_all,
    "all_to_all_single": _all_to_all_single,
}


def numel(size: Sequence[int]) -> int:
    """Return the number of elements of a tensor of this size."""
    total = 1
    for length in size:
        total *= length
    return total
