"""What the ranks of a test did over time: plain data for the pictures and traces of a run.

Ranks, and the process that started them, read one clock (`harness.model.clock.now`, which on Linux
all processes of a machine share), so that times of different ranks can be put side by side.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class PhaseSpan:
    """One phase of a rank over time.

    Attributes:
        name: one of `harness.model.phase.PHASES`.
        began_s, ended_s: on the clock; a phase that was cut short ends where the rank did.
    """

    name: str
    began_s: float
    ended_s: float


@dataclass(frozen=True, slots=True)
class CollectiveSpan:
    """One collective of a rank, from torch's flight recorder.

    Attributes:
        op: the operation, without the backend: `all_reduce`.
        group: name of the process group.
        seq: the collective's number within its group, from 1.
        shapes: dtypes and sizes of its tensors, as a reader would write them: `float32 [4, 2]`.
        began_s: when it was issued, on the clock.
        ended_s: when it had completed; None if it never did, or if the backend does not say. gloo
            does not: for what needs every rank (`all_reduce`, `barrier`, …) it is then the moment
            at which the last rank had issued it, before which it cannot have completed.
        pending: whether it had not completed by the end of the test.
    """

    op: str
    group: str
    seq: int
    shapes: str
    began_s: float
    ended_s: float | None
    pending: bool


@dataclass(frozen=True, slots=True)
class RankTrack:
    """One rank of one test over time.

    Attributes:
        rank: the rank, from 0.
        pid: its process; None for a thread.
        phases: in order, without gaps; the last one ends where the rank did.
        collectives: in the order in which they were issued.
        outcome: a word for what became of it: "passed", "failed", "killed", "timed out", …
        reason: in a line, why, for what is not a pass.
        stdout, stderr: the last of what it printed.
        stacks: where its threads were when the test ended, as text; empty unless it hung or died.
    """

    rank: int
    pid: int | None
    phases: tuple[PhaseSpan, ...] = ()
    collectives: tuple[CollectiveSpan, ...] = ()
    outcome: str = ""
    reason: str = ""
    stdout: str = ""
    stderr: str = ""
    stacks: str = ""

    def later(self, seconds: float) -> RankTrack:
        """The same on a clock that shows so many seconds more."""

        def moved(at_s: float | None) -> float | None:
            return None if at_s is None else at_s + seconds

        return replace(
            self,
            phases=tuple(
                PhaseSpan(phase.name, phase.began_s + seconds, phase.ended_s + seconds)
                for phase in self.phases
            ),
            collectives=tuple(
                replace(span, began_s=span.began_s + seconds, ended_s=moved(span.ended_s))
                for span in self.collectives
            ),
        )


_tracks: list[RankTrack] = []


def leave(tracks: tuple[RankTrack, ...]) -> None:
    """Leave the tracks of a test's ranks for whoever reports the test; the last test's count."""
    _tracks[:] = tracks


def take() -> tuple[RankTrack, ...]:
    """The tracks of the test that has just ended; none if nobody has left any."""
    taken = tuple(_tracks)
    _tracks.clear()
    return taken
