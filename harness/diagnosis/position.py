"""Describe in one line where a rank, or the test's own process, is right now."""

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
from harness.model.timeline import BODY, EXIT, SET_UP, START, TEAR_DOWN

# The gap between columns.
_GAP = "   "
_CASE = inspect.getfile(unittest.TestCase)


@dataclass(frozen=True, slots=True)
class Position:
    """Where a rank, or the main thread, is.

    Attributes:
        who: `rank 3`, `main thread`.
        doing: what it does: `waits in all_reduce (gloo) for 3.2 s`.
        where: the line of the user's code that it is in; empty if it is in none.
        since: for how long it has been in its phase, where `doing` does not say.
    """

    who: str
    doing: str
    where: str = ""
    since: str = ""


def table(positions: Sequence[Position]) -> str:
    """Return a table with a line for each position."""
    who = max((len(p.who) for p in positions), default=0)
    doing = max((len(p.doing) for p in positions if p.where), default=0)
    lines = (
        [f"  {p.who:{who}}  {p.doing:{doing if p.where else 0}}", p.where, p.since]
        for p in positions
    )
    return "\n".join(_GAP.join(filter(None, line)) for line in lines)


def position_of_rank(rank: int, phase: str, since_s: float, snapshot: Snapshot) -> Position:
    """Return where a running rank is.

    Args:
        rank: the rank.
        phase: the phase of its test, of `timeline.PHASES`.
        since_s: when that began, on the clock.
        snapshot: what it is doing.
    """
    frames = snapshot.threads[0].frames if snapshot.threads else ()
    return Position(
        f"rank {rank}",
        _doing(phase, snapshot),
        _place(frames),
        "" if _says_how_long(snapshot) else f"({phase} for {now() - since_s:.1f} s)",
    )


def _doing(phase: str, snapshot: Snapshot) -> str:
    waits = f"waits in {awaited(snapshot)}" if snapshot.waiting is not None else ""
    if phase == BODY:
        return waits or "runs"
    return f"{_VERBS[phase]}, {waits}" if waits else _VERBS[phase]


_VERBS = {START: "starts", SET_UP: "sets up", TEAR_DOWN: "tears down", EXIT: "exits"}


def _says_how_long(snapshot: Snapshot) -> bool:
    return snapshot.waiting is not None and bool(snapshot.pending)


def position_of_process(snapshot: Snapshot) -> Position:
    """Return where the main thread is, in a process that runs a test without ranks."""
    frames = _inside_the_runner(snapshot.threads[0].frames if snapshot.threads else ())
    own = next((frame for frame in frames if not is_foreign(frame.file)), None)
    if own is None:
        in_test = any(frame.function == "run" and frame.file == _CASE for frame in frames)
        return Position(
            "main thread", "is setting up or tearing down a test" if in_test else "is in no test"
        )
    doing = f"waits in {awaited(snapshot)}" if snapshot.waiting is not None else "runs"
    return Position("main thread", doing, shown_place(own))


def _inside_the_runner(frames: Stack) -> Sequence[Place]:
    """Drop the frames that run the tests, which may be in the user's script."""
    outermost = max((i for i, f in enumerate(frames) if is_machinery(f.file)), default=-1)
    return frames[: outermost + 1]


def _place(frames: Sequence[Place]) -> str:
    """Return the innermost line of the user's code, or else of a library's."""
    own = (frame for frame in frames if not is_foreign(frame.file))
    others = (f for f in frames if not is_machinery(f.file) and not f.file.startswith("<"))
    frame = next(own, None) or next(others, None)
    return shown_place(frame) if frame is not None else ""
