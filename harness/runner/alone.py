"""Runs tests one after the other in the runner's own process, where a debugger can follow them."""

from __future__ import annotations

import unittest
from collections.abc import Iterator, Mapping

from harness.model.clock import now
from harness.ranks import whereabouts
from harness.runner.crew import Limits
from harness.runner.given import Given
from harness.runner.ledger import Ledger, Observer
from harness.runner.performing import Performer, warnings_shown
from harness.runner.plan import Place
from harness.runner.results import TestRecord
from harness.runner.schedule import Item
from harness.runner.signals import Signals

#: Why a run stops that has lost a process of the world that it was given.
WORLD_LOST = "world lost"
# After torchrun's SIGTERM, how long a test may take to find out which process has died: what else
# would be known of it than that it was interrupted?
_VERDICT_S = 3.0


class Alone:
    """The one "worker" of a run without workers.

    Args:
        tests: the tests by their places.
        signals: what the user asks for meanwhile.
        observer: is told of everything.
        failfast: leave a test at its first sub-test that fails.
        given: the world that was given; None if there is none.
    """

    def __init__(
        self,
        tests: Mapping[Place, unittest.TestCase],
        signals: Signals,
        observer: Observer,
        failfast: bool,
        given: Given | None = None,
    ) -> None:
        self._tests = dict(tests)
        self._signals = signals
        self._observer = observer
        self._failfast = failfast
        self._given = given
        self.stopped = ""
        self.late: list[str] = []

    def run(self, rounds: Iterator[list[Item]], ledger: Ledger, limits: Limits) -> None:
        """Run all rounds, or until there is a reason to stop (which `stopped` then says)."""
        self._ledger = ledger
        performer = Performer(self._take, self._failfast)
        # From the start: the supervisor of a test looks for questions only if somebody may ask.
        whereabouts.attend(self._observer.say)
        self._signals.on_question = whereabouts.ask
        if self._given is not None:
            self._signals.grace_s = _VERDICT_S
        with warnings_shown():
            try:
                self._signals.raise_on_interrupt(True)
                self._run_all(rounds, performer, ledger, limits)
                performer.rest()
            except KeyboardInterrupt:
                self.stopped = "interrupted"
                self.late.append(self._item.test.key)
            finally:
                self._signals.raise_on_interrupt(False)
                self._signals.on_question = None
                whereabouts.dismiss()

    def _run_all(
        self,
        rounds: Iterator[list[Item]],
        performer: Performer,
        ledger: Ledger,
        limits: Limits,
    ) -> None:
        for item in (item for items in rounds for item in items):
            if self._ledger.has_enough:
                self.stopped = "enough failures"
            elif limits.run.expired:
                self.stopped = "out of time"
            elif self._given is not None and self._given.why_lost():
                self.stopped = WORLD_LOST
            elif self._signals.interrupts:
                self.stopped = "interrupted"
            if self.stopped:
                return
            self._item = item
            if self._given is not None:
                self._given.begin(item)
            self._observer.began(item, 0, now())
            test = item.test
            kept_by = performer.perform(
                self._tests[test.place], test.test_id, test.copy, test.class_copy
            )
            if kept_by:
                ledger.explain(item, kept_by)
            self._observer.done(item)

    def _take(self, record: TestRecord) -> None:
        self._ledger.take(self._item, record)
        if self._given is not None:
            self._given.add(self._item, record)
