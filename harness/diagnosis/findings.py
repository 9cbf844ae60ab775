"""What an audit collects: the steps of the ranks, and the faults that it finds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from harness.diagnosis.calls import group_label
from harness.model.communication import WORLD, Call, CallOfRank, Fault, name_of_key
from harness.model.evidence import Group


@dataclass(frozen=True, slots=True)
class Step:
    """One operation of one rank: where it stands in the rank's program."""

    position: int
    call: Call
    failed: bool


@dataclass
class Findings:
    faults: list[Fault] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    #: The calls that a fault names already, as (rank, position).
    named: set[tuple[int, int]] = field(default_factory=set)

    def add(self, problem: str, rows: Iterable[tuple[int, Step | None, str]]) -> None:
        listed = list(rows)
        self.named.update((rank, step.position) for rank, step, _ in listed if step is not None)
        shown = tuple(
            CallOfRank(rank, step.call if step else None, why) for rank, step, why in listed
        )
        self.faults.append(Fault(problem, shown))


def label_of(name: str, group: Group) -> str:
    """Return what reports call a group."""
    return group.description if name == WORLD else group_label(name_of_key(name), group.description)
