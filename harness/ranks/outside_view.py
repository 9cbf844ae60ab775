"""What can be learnt of a process without its help: its state, its stacks, native frames."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

import psutil

from harness.diagnosis.native import native_frames
from harness.model.clock import Deadline

# py-spy takes half a second for a process with torch, and stops it meanwhile.
NATIVE_LIMIT_S = 10.0
# faulthandler writes within a millisecond if it writes at all; a stopped process does not.
WRITTEN_LIMIT_S = 0.1


@dataclass(frozen=True, slots=True)
class InspectionRequest:
    """What shall be learnt of a rank, beside the system's word for it.

    Attributes:
        stacks: its Python stacks, as faulthandler writes them.
        native: what its main thread does below Python.
    """

    stacks: bool = False
    native: bool = False


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was learnt of a rank.

    Attributes:
        state: the operating system's word for the process; empty if there is none.
        written: what faulthandler wrote.
        native: native frames, innermost first.
    """

    state: str = ""
    written: str = ""
    native: tuple[str, ...] = ()


class Inspectable(Protocol):
    """A process of this machine, as far as a look needs it."""

    rank: int

    @property
    def pid(self) -> int | None: ...

    def written_stacks(self, deadline: Deadline) -> str: ...


def inspect_ranks(
    ranks: Collection[Inspectable], requests: Mapping[int, InspectionRequest]
) -> dict[int, Inspection]:
    """Look at ranks that are processes of this machine; by rank."""
    chosen = [rank for rank in ranks if rank.rank in requests]
    states = {rank.rank: process_state(rank.pid) for rank in chosen}
    written = {
        rank.rank: rank.written_stacks(Deadline.after(WRITTEN_LIMIT_S))
        for rank in chosen
        if requests[rank.rank].stacks
    }
    pids = {rank.pid: rank.rank for rank in chosen if rank.pid and requests[rank.rank].native}
    frames = native_frames(list(pids), NATIVE_LIMIT_S) if pids else {}
    native = {pids[pid]: found for pid, found in frames.items()}
    return {
        rank: Inspection(state, written.get(rank, ""), native.get(rank, ()))
        for rank, state in states.items()
    }


def process_state(pid: int | None) -> str:
    """The operating system's word for what a process does; empty if there is none."""
    try:
        return psutil.Process(pid).status() if pid is not None else ""
    except psutil.Error:
        return ""
