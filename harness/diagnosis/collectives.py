"""Find where ranks diverge: the first collective that the ranks of a group did not all call.

torch numbers the collectives of each group on each rank. Two ranks agree at a number if both have
called the same operation under it, with tensors that fit (`Collective.signature`).
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from harness.diagnosis.calls import UNDESCRIBED
from harness.model.evidence import Collective, Snapshot, differ

Snapshots = Mapping[int, Snapshot]


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first collective of a group at which its ranks made different calls, or some made none.

    Attributes:
        group: torch's name for the group, usually a number.
        description: the group's description, or its name if it has none.
        seq: the collective's number in the group.
        calls: rank to its call with this number; None for a rank that has not called so many.
    """

    group: str
    description: str
    seq: int
    calls: Mapping[int, Collective | None]

    @property
    def is_mismatch(self) -> bool:
        """Whether ranks made different calls; False if some made none and the others agree."""
        return differ(call for call in self.calls.values() if call is not None)


def find_divergence(snapshots: Snapshots, broken: Container[int] = ()) -> Divergence | None:
    """Return the earliest collective at which the ranks of a group diverge; None if they agree.

    Args:
        snapshots: rank to its snapshot; ranks without a snapshot are ignored.
        broken: ranks that raised an exception; their last collective may have raised it.
    """
    divergences = [
        divergence
        for group in dict.fromkeys(c.group for s in snapshots.values() for c in s.collectives)
        if (divergence := _divergence_in(group, snapshots, broken)) is not None
    ]
    # Groups can diverge as a consequence of another group's divergence. The oldest is the cause.
    return max(divergences, key=_age, default=None)


def _age(divergence: Divergence) -> float:
    return max(call.waited_s for call in divergence.calls.values() if call is not None)


def _divergence_in(group: str, snapshots: Snapshots, broken: Container[int]) -> Divergence | None:
    histories = {
        rank: {c.seq: c for c in snapshot.collectives if c.group == group}
        for rank, snapshot in snapshots.items()
        if rank in members(group, snapshots)
    }
    oldest = _first_seq_in_every_record(list(histories.values()))
    newest = max((seq for history in histories.values() for seq in history), default=0)
    for seq in range(oldest, newest + 1):
        calls = {rank: history.get(seq) for rank, history in histories.items()}
        failed = {
            r for r, history in histories.items() if r in broken and max(history, default=0) == seq
        }
        if _is_divergence(calls, failed):
            return Divergence(group, _description(group, snapshots), seq, calls)
    return None


def _first_seq_in_every_record(histories: Sequence[Mapping[int, Collective]]) -> int:
    """Return the first number that the records of all ranks still contain.

    The flight recorder is a ring buffer: a rank that is ahead has overwritten older entries.
    """
    return max((min(history) for history in histories if history), default=1)


def _is_divergence(calls: Mapping[int, Collective | None], failed: Container[int]) -> bool:
    made = {rank: call for rank, call in calls.items() if call is not None}
    if differ(made.values()):
        return True
    # A completed collective is no divergence: a broadcast can complete on its root before the
    # others call it. One that is pending or has failed may lack the missing ranks.
    return len(made) < len(calls) and any(
        call.pending or rank in failed for rank, call in made.items()
    )


def members(group: str, snapshots: Snapshots) -> tuple[int, ...]:
    """Return the ranks of a group as one of its members reports them; all ranks if none does."""
    for snapshot in snapshots.values():
        known = snapshot.groups.get(group)
        if known is not None and known.ranks:
            return known.ranks
    return tuple(snapshots)


def _description(group: str, snapshots: Snapshots) -> str:
    for snapshot in snapshots.values():
        known = snapshot.groups.get(group)
        if known is not None and known.description not in UNDESCRIBED:
            return known.description
    return group
