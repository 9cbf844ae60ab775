"""What the ranks of a test did over time: plain data for timelines and traces.

All times are on `harness.model.clock.now`. On Linux all processes of a host share that clock, so
times of different ranks can be compared.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class PhaseSpan:
    """One phase of a rank over time.

    Attributes:
        name: one of `harness.model.phase.PHASES`.
        began_s, ended_s: when it began and ended; the last phase ends when the rank does.
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
        shapes: dtypes and sizes of its tensors, as text: `float32 [4, 2]`.
        began_s: when the rank issued it.
        ended_s: when it completed; None if it did not, or if that is unknown. gloo does not record
            it (torch 2.13). A collective that needs all ranks (`all_reduce`, `barrier`, …) cannot
            complete before the last rank has issued it, so for gloo that time is used.
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
        outcome: its outcome in a word: "passed", "failed", "killed", "timed out", …
        reason: a line that explains the outcome; empty if it passed.
        stdout, stderr: the end of its output.
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
        """Return a copy whose times are `seconds` later, for a clock of another host."""

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


# The cases put tracks here and the runner takes them, so that neither imports the other.
_tracks: list[RankTrack] = []


def put(tracks: tuple[RankTrack, ...]) -> None:
    """Store the tracks of a test's ranks for the runner; they replace those of an earlier test."""
    _tracks[:] = tracks


def take() -> tuple[RankTrack, ...]:
    """Return the tracks of the test that has just ended, and forget them; empty if there are none.

    The runner calls it after each test. unittest and pytest do not, so `put` keeps only one test's.
    """
    taken = tuple(_tracks)
    _tracks.clear()
    return taken
