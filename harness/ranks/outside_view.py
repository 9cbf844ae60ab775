"""Inspect a process without its help: its state, its Python stacks, its native frames."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

import psutil

from harness.diagnosis.native import native_frames
from harness.model.clock import Deadline

# py-spy takes half a second per process with torch loaded, and stops the process meanwhile. The
# limit is for a busy machine, and for processes whose symbols are on a slow disk.
NATIVE_LIMIT_S = 10.0
# faulthandler writes within a millisecond, or never if the process is stopped.
WRITTEN_LIMIT_S = 0.1


@dataclass(frozen=True, slots=True)
class InspectionRequest:
    """What to find out about a rank, beside its process state.

    Attributes:
        stacks: whether to get its Python stacks from faulthandler.
        native: whether to get the native frames of its main thread.
    """

    stacks: bool = False
    native: bool = False


@dataclass(frozen=True, slots=True)
class Inspection:
    """What an inspection of a rank has found.

    Attributes:
        state: the process state, as the operating system names it; empty if there is none.
        written: what faulthandler wrote.
        native: native frames, innermost first.
    """

    state: str = ""
    written: str = ""
    native: tuple[str, ...] = ()


class Inspectable(Protocol):
    """The part of a rank on this host that an inspection needs."""

    rank: int

    @property
    def pid(self) -> int | None: ...

    def written_stacks(self, deadline: Deadline) -> str: ...


def inspect_ranks(
    ranks: Collection[Inspectable], requests: Mapping[int, InspectionRequest]
) -> dict[int, Inspection]:
    """Inspect ranks that are processes of this host; return the results by rank."""
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
    """Return the process state, as the operating system names it; empty if there is none."""
    try:
        return psutil.Process(pid).status() if pid is not None else ""
    except psutil.Error:
        return ""
