"""The report about one rank: its outcome, its evidence and the end of its output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

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
        """The same, with no more than `limit` of the lines."""
        return replace(self, lines=self.lines[-limit:])

    def with_lines(self, lines: Sequence[str]) -> Tail:
        """The same, with only these of its lines."""
        left_out = len(self.lines) - len(lines)
        total = None if self.total_lines is None else self.total_lines - left_out
        return replace(self, lines=tuple(lines), total_lines=total)


@dataclass(frozen=True, slots=True)
class RankReport:
    """The outcome of one rank, and what is known about it.

    Attributes:
        rank: the rank, from 0.
        outcome: its outcome.
        at_s: when the parent learned of it, on the parent's monotonic clock.
        pid: the process; None if there never was one.
        stdout, stderr: the last lines of the rank's own output.
        evidence: what it was doing when the test ended.
        host: the host that it ran on, where there are several; else empty.
        local_rank: its number among the ranks of that host; None where there is one host.
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
