"""The world that a run has been given by torchrun, as far as running tests one by one needs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harness.runner.results import TestRecord
from harness.runner.torchrun_journal import Journal, Resumed
from harness.runner.workers.schedule import Item


@dataclass(frozen=True)
class Given:
    """A given world.

    Attributes:
        told: who is in it, for the reader.
        why_lost: says why there can be no more tests; empty if there can.
        journal: what outlives this process; None where torchrun would not start it again.
        may_be_restarted: whether it would now.
    """

    told: str
    why_lost: Callable[[], str]
    journal: Journal | None
    may_be_restarted: bool

    def resumed(self) -> Resumed:
        """What has run before torchrun started the world again."""
        return Resumed([]) if self.journal is None else self.journal.read()

    def begin(self, item: Item) -> None:
        """A test begins."""
        if self.journal is not None:
            self.journal.begin(item)

    def add(self, item: Item, record: TestRecord) -> None:
        """A test, or a fixture that it needed, is done."""
        if self.journal is not None:
            self.journal.add(item, record)

    def finish(self, code: int) -> None:
        """All tests are done, and the run ends with this code."""
        if self.journal is not None:
            self.journal.finish(code)
