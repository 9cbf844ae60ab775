"""Record the phases that a rank has entered, and when."""

from __future__ import annotations

from itertools import pairwise

from harness.model.clock import now
from harness.model.phase import PHASES, Phase
from harness.model.timeline import PhaseSpan


class Progress:
    """The phases of one rank in one test.

    Args:
        asked_s: when the parent requested the rank; by default now.
    """

    def __init__(self, asked_s: float | None = None) -> None:
        self._entered: list[tuple[Phase, float]] = [
            (Phase.START, now() if asked_s is None else asked_s)
        ]

    @property
    def phase(self) -> Phase:
        """The current phase."""
        return self._entered[-1][0]

    @property
    def since_s(self) -> float:
        """When the current phase began, on `now()`'s clock."""
        return self._entered[-1][1]

    def enter(self, phase: Phase, at_s: float | None = None) -> bool:
        """Enter a phase; return False if the rank is already in that phase or a later one."""
        # A phase can be entered by a message and by the parent's own view; it only ever advances.
        if PHASES.index(phase) <= PHASES.index(self.phase):
            return False
        self._entered.append((phase, now() if at_s is None else at_s))
        return True

    def phases(self, ended_s: float) -> tuple[PhaseSpan, ...]:
        """Return all phases, without gaps; the current one ends at `ended_s`."""
        names, times = zip(*self._entered, strict=True)
        # The times come from parent and rank. Where these have different clocks (macOS), a phase
        # must still not end before it begins.
        bounds = [times[0]]
        for at_s in (*times[1:], ended_s):
            bounds.append(max(at_s, bounds[-1]))
        return tuple(
            PhaseSpan(name, *pair) for name, pair in zip(names, pairwise(bounds), strict=True)
        )
