"""Describe in one line where a rank, or the process that runs a test, is right now."""

from __future__ import annotations

import inspect
import unittest
from collections.abc import Sequence
from dataclasses import dataclass

from harness.diagnosis.calls import awaited
from harness.diagnosis.sources import is_foreign, is_machinery
from harness.diagnosis.stacks import shown_place
from harness.model.clock import now
from harness.model.evidence import Snapshot, Stack
from harness.model.outcome import Place
from harness.model.phase import Phase

_COLUMN_GAP = "   "
_CASE_FILE = inspect.getfile(unittest.TestCase)


@dataclass(frozen=True, slots=True)
class Position:
    """Where a rank or the main thread is: one line of the table.

    Attributes:
        who: `rank 3`, `main thread`.
        doing: what it is doing: `waiting in all_reduce (gloo) for 3.2 s`.
        where: the line of the user's code that it executes; empty if it is not in user code.
        since: how long it has been in its phase; empty if `doing` contains a time.
    """

    who: str
    doing: str
    where: str = ""
    since: str = ""


def table(positions: Sequence[Position]) -> str:
    """Return the positions as a table, one line each, with aligned columns."""
    who = max((len(p.who) for p in positions), default=0)
    doing = max((len(p.doing) for p in positions if p.where), default=0)
    lines = (
        [f"  {p.who:{who}}  {p.doing:{doing if p.where else 0}}", p.where, p.since]
        for p in positions
    )
    return "\n".join(_COLUMN_GAP.join(filter(None, line)) for line in lines)


def position_of_rank(rank: int, phase: Phase, since_s: float, snapshot: Snapshot) -> Position:
    """Return the position of a running rank.

    Args:
        rank: the rank.
        phase: its phase.
        since_s: when the phase began, on `now()`'s clock.
        snapshot: the rank's latest snapshot.
    """
    frames = snapshot.threads[0].frames if snapshot.threads else ()
    return Position(
        f"rank {rank}",
        _doing(phase, snapshot),
        _place(frames),
        "" if _has_waiting_time(snapshot) else f"({phase} for {now() - since_s:.1f} s)",
    )


def _doing(phase: Phase, snapshot: Snapshot) -> str:
    waiting = f"waiting in {awaited(snapshot)}" if snapshot.waiting is not None else ""
    if phase is Phase.BODY:
        return waiting or "running"
    return f"{_VERBS[phase]}, {waiting}" if waiting else _VERBS[phase]


_VERBS = {
    Phase.START: "starting",
    Phase.SET_UP: "setting up",
    Phase.TEAR_DOWN: "tearing down",
    Phase.EXIT: "exiting",
}


def _has_waiting_time(snapshot: Snapshot) -> bool:
    return snapshot.waiting is not None and bool(snapshot.pending)


def position_of_process(snapshot: Snapshot) -> Position:
    """Return the position of the main thread in a process that runs a test without ranks."""
    frames = _frames_of_test(snapshot.threads[0].frames if snapshot.threads else ())
    own = next((frame for frame in frames if not is_foreign(frame.file)), None)
    # No frame of the user: unittest is between two tests, or inside one but not in its code.
    if own is None:
        is_in_test = any(f.function == "run" and f.file == _CASE_FILE for f in frames)
        return Position(
            "main thread", "setting up or tearing down a test" if is_in_test else "between tests"
        )
    doing = f"waiting in {awaited(snapshot)}" if snapshot.waiting is not None else "running"
    return Position("main thread", doing, shown_place(own))


def _frames_of_test(frames: Stack) -> Sequence[Place]:
    """Return the frames without the outermost ones, which run the tests.

    These may be in a file of the user, as in a script that calls `run_tests()`.
    """
    outermost = max((i for i, f in enumerate(frames) if is_machinery(f.file)), default=-1)
    return frames[: outermost + 1]


def _place(frames: Sequence[Place]) -> str:
    """Return the innermost line of the user's code, else of a library, as text."""
    own = (frame for frame in frames if not is_foreign(frame.file))
    others = (f for f in frames if not is_machinery(f.file) and not f.file.startswith("<"))
    frame = next(own, None) or next(others, None)
    return shown_place(frame) if frame is not None else ""
