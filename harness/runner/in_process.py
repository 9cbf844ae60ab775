"""Runs tests one after the other in the runner's own process, where a debugger can follow them."""

from __future__ import annotations

import unittest
from collections.abc import Iterator, Mapping

from harness.model.clock import now
from harness.ranks import folders
from harness.ranks.descriptors import lost_descriptors, lost_descriptors_message
from harness.ranks.watch import where
from harness.runner.ledger import Ledger, Observer
from harness.runner.results import Status, TestRecord, Trouble
from harness.runner.selection.planned_test import Place
from harness.runner.signals import RUN_TIMEOUT, Signals
from harness.runner.torchrun_journal import Given
from harness.runner.workers import worker_death
from harness.runner.workers.crew import Limits
from harness.runner.workers.performer import Performer, warnings_shown
from harness.runner.workers.schedule import Item

#: Why a run stops that has lost a process of the world that it was given.
WORLD_LOST = "world lost"
# How long a test that is to be stopped may take to say where it is.
_WHERE_S = 4.0
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
        # What runs now, and what ran last: its class may still be torn down.
        self._item: Item | None = None
        self._last: Item | None = None
        self._has_record = False
        self._began_s = 0.0
        self._where = ""

    def run(self, rounds: Iterator[list[Item]], ledger: Ledger, limits: Limits) -> None:
        """Run all rounds, or until there is a reason to stop (which `stopped` then says)."""
        self._ledger = ledger
        performer = Performer(
            self._take,
            self._failfast,
            damage=self._take_damage,
            is_to_stop=lambda: bool(self._signals.stopped_by),
        )
        # From the start: the supervisor of a test looks for questions only if somebody may ask.
        where.enable(self._tell_where)
        self._signals.on_question = self._signals.on_stop = where.ask
        self._signals.grace_s = _WHERE_S if self._given is None else _VERDICT_S
        with warnings_shown():
            try:
                self._signals.raise_on_interrupt(True, limits.run)
                self._run_all(rounds, performer, ledger, limits)
                performer.rest()
            except KeyboardInterrupt:
                self._signals.raise_on_interrupt(False)
                is_late = self._signals.stopped_by == RUN_TIMEOUT
                self.stopped = "out of time" if is_late else "interrupted"
                self._record_stopped_test()
            finally:
                self._signals.raise_on_interrupt(False)
                self._signals.on_question = self._signals.on_stop = None
                where.disable()

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
            self._item, self._has_record = item, False
            if self._given is not None:
                self._given.begin(item)
            self._began_s = now()
            self._observer.began(item, 0, self._began_s)
            test = item.test
            kept_by = performer.perform(
                self._tests[test.place], test.test_id, test.copy, test.class_copy
            )
            if kept_by:
                ledger.explain(item, kept_by)
            self._done(item)

    def _done(self, item: Item) -> None:
        self._last, self._item = item, None
        self._observer.done(item)

    def _take(self, record: TestRecord) -> None:
        item = self._item or self._last
        assert item is not None, f"{record.key} came before any test"
        self._has_record = self._has_record or not record.is_fixture
        self._ledger.take(item, record)
        if self._given is not None:
            self._given.add(item, record)

    def _take_damage(self) -> str:
        """Return what the test has done to this process, in words, and repair what can be."""
        lost = lost_descriptors()
        if lost:
            folders.lock_again()
            where.wakeup()  # makes a new one where it is needed
        told = [lost_descriptors_message(lost)] if lost else []
        return "\n\n".join([*told, *filter(None, [self._signals.take_own()])])

    def _tell_where(self, text: str) -> None:
        """Show where the test is; if the run is to be stopped, keep it for the report."""
        if not self._signals.interrupts:
            self._observer.say(text)
            return
        self._where = text
        if self._given is None:
            self._signals.stop_now()

    def _record_stopped_test(self) -> None:
        """The run was stopped while a test ran, unless that had come to its end just then."""
        item = self._item
        if item is None:
            return
        if not self._has_record:
            by = self._signals.stopped_by or "KeyboardInterrupt in the test"
            text = worker_death.stop_text(by, self._began_s, self._where)
            self._take(
                TestRecord(
                    item.test.test_id,
                    Status.FAILED,
                    seconds=now() - self._began_s,
                    troubles=[Trouble("ERROR", item.test.key, text)],
                    started_s=self._began_s,
                    copy=item.test.copy,
                )
            )
        self._done(item)
