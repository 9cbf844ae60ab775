"""How long the examples of a property test may take: each of them, all together, and shrinking."""

from __future__ import annotations

from harness.model.clock import Deadline

# Once one example has hung, the others that hang are recognised sooner: by taking this many times
# what the slowest took that came to an end, and this long at least.
_TIMES_THE_SLOWEST = 20
_LEAST_S = 1.0
# And a deadlock has to be seen for so long only.
_DEADLOCK_S = 0.2


class ExampleBudget:
    """What time there is.

    Attributes:
        all_s, shrink_s: as given.

    Args:
        example_s: what one example may take.
        deadlock_s: for how long ranks must be seen stuck; 0 for not looking.
        all_s: what all examples together may take.
        shrink_s: what making a failing example smaller may take.
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
        """The first example is about to run."""
        self._all = Deadline.after(self.all_s)

    @property
    def example_s(self) -> float:
        """Seconds that the next example may take."""
        if not self._has_hung:
            return self._example_s
        enough_s = max(_LEAST_S, _TIMES_THE_SLOWEST * self._slowest_s)
        return min(self._example_s, round(enough_s, 1))

    @property
    def deadlock_s(self) -> float:
        """For how long the ranks of the next example must be seen stuck."""
        return min(self._deadlock_s, _DEADLOCK_S) if self._has_hung else self._deadlock_s

    @property
    def is_shortened(self) -> bool:
        """Whether the next example may take less than an example usually may."""
        return self.example_s < self._example_s

    @property
    def is_used_up(self) -> bool:
        """Whether no more examples are to be tried."""
        return self._all.expired or (self._shrink is not None and self._shrink.expired)

    def use_up(self) -> None:
        """Have no more examples tried, whatever time there is."""
        self._all = Deadline.after(0.0)

    def ended(self, seconds: float) -> None:
        """An example came to an end after so many seconds, well or not."""
        self._slowest_s = max(self._slowest_s, seconds)

    def failed(self, hung: bool) -> None:
        """An example failed; from the first one on, time is for making it smaller."""
        self._has_hung = self._has_hung or hung
        if self._shrink is None:
            self._shrink = Deadline.after(self.shrink_s)
