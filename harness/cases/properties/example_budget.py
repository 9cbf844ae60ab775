"""Time limits of a property test: for each example, for all of them, and for shrinking."""

from __future__ import annotations

from harness.model.clock import Deadline

# Shrinking a hang means running many examples that hang, and each would cost the full time limit.
# So once one example has hung, the limit becomes this multiple of the slowest example that ended,
# and at least the minimum.
_SLOWEST_FACTOR = 20
_MIN_TIMEOUT_S = 1.0
# For the same reason, a deadlock then only has to last this long.
_DEADLOCK_S = 0.2


class ExampleBudget:
    """Tracks the time limits of one property test.

    Attributes:
        all_s, shrink_s: the arguments.

    Args:
        example_s: time limit for one example.
        deadlock_s: how long ranks must be stuck to count as deadlocked; 0 turns the check off.
        all_s: time limit for all examples together.
        shrink_s: time limit for shrinking.
    """

    def __init__(self, example_s: float, deadlock_s: float, all_s: float, shrink_s: float) -> None:
        self.all_s = all_s
        self.shrink_s = shrink_s
        self._example_s = example_s
        self._deadlock_s = deadlock_s
        self._all = Deadline.after(all_s)
        self._shrink: Deadline | None = None
        self._slowest_s = 0.0
        self._has_hung = False

    def begin(self) -> None:
        """Start the time limit for all examples."""
        self._all = Deadline.after(self.all_s)

    @property
    def example_s(self) -> float:
        """The time limit of the next example, in seconds."""
        if not self._has_hung:
            return self._example_s
        enough_s = max(_MIN_TIMEOUT_S, _SLOWEST_FACTOR * self._slowest_s)
        # Rounded, because the report shows the limit.
        return min(self._example_s, round(enough_s, 1))

    @property
    def deadlock_s(self) -> float:
        """How long the ranks of the next example must be stuck to count as deadlocked."""
        return min(self._deadlock_s, _DEADLOCK_S) if self._has_hung else self._deadlock_s

    @property
    def is_shortened(self) -> bool:
        """Whether the next example has a shorter time limit, because one has hung."""
        return self.example_s < self._example_s

    @property
    def is_used_up(self) -> bool:
        """Whether the time for further examples has run out."""
        return self._all.expired or (self._shrink is not None and self._shrink.expired)

    def use_up(self) -> None:
        """Allow no further examples, whatever time is left."""
        self._all = Deadline.after(0.0)

    def ended(self, seconds: float) -> None:
        """Record that an example ended by itself, passed or failed, after so many seconds."""
        self._slowest_s = max(self._slowest_s, seconds)

    def failed(self, hung: bool) -> None:
        """Record that an example failed; the first failure starts the time limit for shrinking."""
        self._has_hung = self._has_hung or hung
        if self._shrink is None:
            self._shrink = Deadline.after(self.shrink_s)
