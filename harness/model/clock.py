"""The clock of all deadlines and evidence."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass


def now() -> float:
    """Return the seconds on this host's monotonic clock."""
    return time.monotonic()


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point on the clock by which something must have happened.

    Attributes:
        at: seconds on `now()`'s clock; infinity for "no deadline".
    """

    at: float

    @classmethod
    def after(cls, seconds: float | None) -> Deadline:
        """Return the deadline `seconds` from now; None means never."""
        return NEVER if seconds is None else cls(now() + seconds)

    def remaining_s(self) -> float | None:
        """Seconds left, never below zero; None if there is no deadline."""
        return None if math.isinf(self.at) else max(0.0, self.at - now())

    @property
    def expired(self) -> bool:
        return now() >= self.at

    def later(self, seconds: float) -> Deadline:
        """Return the deadline postponed by so many seconds."""
        # Callers ask whether a deadline `is NEVER`.
        return self if self is NEVER else Deadline(self.at + seconds)

    def sooner(self, other: Deadline) -> Deadline:
        return self if self.at <= other.at else other


NEVER = Deadline(math.inf)


class Suspensions:
    """Detects in a loop that this process was stopped (by Ctrl-Z, say).

    Time limits are for what runs. A loop that comes round at least once a second, and has not for
    several, was stopped, or as good as that.
    """

    #: How long the loop may wait at most.
    TICK_S = 1.0
    # A busy machine delays a loop, too; the limits are then postponed by the delay as well.
    _SLACK_S = 2.0

    def __init__(self) -> None:
        self._last_s = now()

    def come_round(self) -> float:
        """Call this after each wait of the loop; return for how many seconds it was stopped."""
        before, self._last_s = self._last_s, now()
        late_s = self._last_s - before - self.TICK_S
        return late_s if late_s > self._SLACK_S else 0.0
