"""The report about one rank: its outcome, its evidence and the end of its output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from harness.model.communication import CommunicationRecord
from harness.model.evidence import Evidence
from harness.model.outcome import Outcome


@dataclass(frozen=True, slots=True)
class Tail:
    """The end of a rank's output.

    Attributes:
        lines: the last lines, oldest first.
        total_lines: how many lines there were in all; None if there were too many to count.
        size: bytes in all.
    """

    lines: tuple[str, ...] = ()
    total_lines: int | None = 0
    size: int = 0

    def last(self, limit: int) -> Tail:
        """Return a copy with at most the last `limit` lines."""
        return replace(self, lines=self.lines[-limit:])

    def with_lines(self, lines: Sequence[str]) -> Tail:
        """Return a copy with only these of its lines."""
        left_out = len(self.lines) - len(lines)
        total = None if self.total_lines is None else self.total_lines - left_out
        return replace(self, lines=tuple(lines), total_lines=total)


@dataclass(frozen=True, slots=True)
class RankReport:
    """The outcome of one rank, with its evidence.

    Attributes:
        rank: the rank, from 0.
        outcome: its outcome.
        at_s: when the parent learned of the outcome, on the parent's clock. The rank at fault with
            the earliest time is the root cause.
        pid: its process id; None if it had no process.
        stdout, stderr: the last lines of its output.
        evidence: what it was doing when the test ended.
        host: its host if there are several; else empty.
        local_rank: its local rank if there are several hosts; else None.
        communication: what it communicated; None if it left no record.
    """

    rank: int
    outcome: Outcome
    at_s: float
    pid: int | None = None
    stdout: Tail = field(default_factory=Tail)
    stderr: Tail = field(default_factory=Tail)
    evidence: Evidence = field(default_factory=Evidence)
    host: str = ""
    local_rank: int | None = None
    communication: CommunicationRecord | None = None
