"""Find where ranks diverge: the first collective on which the ranks of a group differ."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from harness.diagnosis.calls import UNDESCRIBED
from harness.model.evidence import Collective, Snapshot

Snapshots = Mapping[int, Snapshot]


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first collective of a group that its ranks have not all called alike.

    Attributes:
        group: the group's name, as torch numbers it.
        description: what torch or the user calls it.
        seq: the collective's number in the group.
        calls: by rank, what it called under this number; None for a rank that called nothing.
    """

    group: str
    description: str
    seq: int
    calls: Mapping[int, Collective | None]

    @property
    def is_mismatch(self) -> bool:
        """Whether ranks called different collectives, rather than some of them none."""
        return len({call.signature for call in self.calls.values() if call is not None}) > 1


def find_divergence(snapshots: Snapshots, broken: Container[int] = ()) -> Divergence | None:
    """Return the earliest collective at which the ranks of a group diverge; None if none.

    Args:
        snapshots: by rank; ranks without a snapshot are ignored.
        broken: ranks that raised an exception; their last collective may have raised it.
    """
    divergences = [
        divergence
        for group in dict.fromkeys(c.group for s in snapshots.values() for c in s.collectives)
        if (divergence := _divergence_of(group, snapshots, broken)) is not None
    ]
    # The oldest one is the cause: later divergences follow from it.
    return max(divergences, key=_age, default=None)


def _age(divergence: Divergence) -> float:
    return max(call.waited_s for call in divergence.calls.values() if call is not None)


def _divergence_of(group: str, snapshots: Snapshots, broken: Container[int]) -> Divergence | None:
    histories = {
        rank: {c.seq: c for c in snapshot.collectives if c.group == group}
        for rank, snapshot in snapshots.items()
        if rank in members(group, snapshots)
    }
    oldest = _oldest_known_by_all(list(histories.values()))
    newest = max((seq for history in histories.values() for seq in history), default=0)
    for seq in range(oldest, newest + 1):
        calls = {rank: history.get(seq) for rank, history in histories.items()}
        failed = {
            r for r, history in histories.items() if r in broken and max(history, default=0) == seq
        }
        if _is_divergence(calls, failed):
            return Divergence(group, _description(group, snapshots), seq, calls)
    return None


def _oldest_known_by_all(histories: Sequence[Mapping[int, Collective]]) -> int:
    """Return the first number that every rank's record still contains (it is a ring buffer)."""
    return max((min(history) for history in histories if history), default=1)


def _is_divergence(calls: Mapping[int, Collective | None], failed: Container[int]) -> bool:
    made = {rank: call for rank, call in calls.items() if call is not None}
    if len({call.signature for call in made.values()}) > 1:
        return True
    # A completed collective is no divergence: a broadcast can complete on its root before the
    # others call it. One that is pending or has failed may lack the missing ranks.
    return len(made) < len(calls) and any(
        call.pending or rank in failed for rank, call in made.items()
    )


def members(group: str, snapshots: Snapshots) -> tuple[int, ...]:
    """Return the ranks of a group, as any member knows them; all ranks if none does."""
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
