"""The one clock for deadlines and times in reports, and deadlines on it.

It is monotonic: a wall clock jumps when the machine synchronizes it, and a deadline would expire
early or never. On Linux all processes of a host read the same clock, so times that ranks send can
be compared. On other hosts they cannot, and `RankTrack.later` shifts them.
"""

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
        """Return the seconds left, at least 0; None if there is no deadline."""
        return None if math.isinf(self.at) else max(0.0, self.at - now())

    @property
    def expired(self) -> bool:
        return now() >= self.at

    def later(self, seconds: float) -> Deadline:
        """Return a deadline that is `seconds` later."""
        # Callers test `deadline is NEVER`, so NEVER must stay the same object.
        return self if self is NEVER else Deadline(self.at + seconds)

    def sooner(self, other: Deadline) -> Deadline:
        """Return whichever of the two deadlines comes first."""
        return self if self.at <= other.at else other


NEVER = Deadline(math.inf)


class SuspensionDetector:
    """Detects in a loop that this process was stopped, for example by Ctrl-Z.

    Time limits must not count the time in which neither the process nor its ranks ran. No signal
    tells a process that it was stopped by SIGSTOP. But a loop that never waits longer than `TICK_S`
    and takes several seconds for one turn was stopped, or got no processor, which counts the same.
    """

    #: The longest time for which the loop may wait.
    TICK_S = 1.0
    # How much longer one turn may take on a busy machine before it counts as a suspension.
    _SLACK_S = 2.0

    def __init__(self) -> None:
        self._last_s = now()

    def suspended_s(self) -> float:
        """Return how many seconds this process was stopped since the last call; usually 0.

        The loop calls this after each wait.
        """
        before, self._last_s = self._last_s, now()
        late_s = self._last_s - before - self.TICK_S
        return late_s if late_s > self._SLACK_S else 0.0
