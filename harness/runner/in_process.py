"""Run tests one after the other in the runner's own process (-j 0), where a debugger sees them.

A stop takes two steps, so that the report can say where the test was. The first Ctrl-C, SIGTERM or
--run-timeout only asks for the test's location. KeyboardInterrupt follows when the location is
known or the grace period ends. A second Ctrl-C raises KeyboardInterrupt at once.
"""

from __future__ import annotations

import unittest
from collections.abc import Iterator, Mapping

from harness.model.clock import now
from harness.ranks import folders
from harness.ranks.descriptors import lost_descriptors, lost_descriptors_message
from harness.ranks.watch import where
from harness.runner.ledger import Ledger, Observer
from harness.runner.options import Limits
from harness.runner.results import Status, TestRecord, Trouble
from harness.runner.selection.planned_test import Place
from harness.runner.signals import RUN_TIMEOUT, Signals
from harness.runner.torchrun_journal import TorchrunRun
from harness.runner.workers import worker_death
from harness.runner.workers.performer import Performer, warnings_shown
from harness.runner.workers.schedule import Item

#: The reason to stop when a process that torchrun started has died.
WORLD_LOST = "world lost"
# Grace period of a stop: how long to wait for the location of the test and its ranks.
_STOP_GRACE_S = 4.0
# Grace period under torchrun. Its SIGTERM usually means that another process died. In this time the
# supervisor finds out which, so that the test fails with that reason instead of "interrupted".
_TORCHRUN_GRACE_S = 3.0


class Alone:
    """Runs all tests of a run without workers.

    Args:
        tests: the tests by their places.
        signals: the signals of the run.
        observer: gets all events of the run.
        failfast: end a test at its first subtest that fails.
        torchrun: what the run needs to know of torchrun; None if tests start their own ranks.
    """

    def __init__(
        self,
        tests: Mapping[Place, unittest.TestCase],
        signals: Signals,
        observer: Observer,
        failfast: bool,
        torchrun: TorchrunRun | None = None,
    ) -> None:
        self._tests = dict(tests)
        self._signals = signals
        self._observer = observer
        self._failfast = failfast
        self._torchrun = torchrun
        self.stopped = ""
        # The running test, and the last one: a fixture that tears its class down may still fail,
        # which counts for the last test.
        self._item: Item | None = None
        self._last: Item | None = None
        self._has_record = False
        self._began_s = 0.0
        self._where = ""

    def run(self, rounds: Iterator[list[Item]], ledger: Ledger, limits: Limits) -> None:
        """Run all rounds, or until there is a reason to stop; `stopped` then has the reason."""
        self._ledger = ledger
        performer = Performer(
            self._take,
            self._failfast,
            damage=self._damage,
            is_to_stop=lambda: bool(self._signals.stopped_by),
        )
        # Before the first test: a test's supervisor only checks for status requests if somebody
        # listens for the answer.
        where.enable(self._show_or_keep_location)
        self._signals.on_question = self._signals.on_stop = where.ask
        # With a grace period, Ctrl-C first asks where the test is, and raises KeyboardInterrupt
        # later.
        self._signals.grace_s = _STOP_GRACE_S if self._torchrun is None else _TORCHRUN_GRACE_S
        with warnings_shown():
            try:
                self._signals.raise_on_interrupt(True, limits.run)
                self._run_all(rounds, performer, ledger, limits)
                performer.tear_down()
            except KeyboardInterrupt:
                self._signals.raise_on_interrupt(False)
                # The timer of --run-timeout arrives as a signal, like Ctrl-C.
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
            elif self._torchrun is not None and self._torchrun.why_lost():
                self.stopped = WORLD_LOST
            elif self._signals.interrupts:
                self.stopped = "interrupted"
            if self.stopped:
                return
            self._item, self._has_record = item, False
            if self._torchrun is not None:
                self._torchrun.begin(item)
            self._began_s = now()
            self._observer.began(item, 0, self._began_s)
            test = item.test
            blocked_by = performer.perform(
                self._tests[test.place], test.test_id, test.copy, test.class_copy
            )
            if blocked_by:
                ledger.explain(item, blocked_by)
            self._done(item)

    def _done(self, item: Item) -> None:
        self._last, self._item = item, None
        self._observer.done(item)

    def _take(self, record: TestRecord) -> None:
        item = self._item or self._last
        assert item is not None, f"{record.key} came before any test"
        self._has_record = self._has_record or not record.is_fixture
        self._ledger.take(item, record)
        if self._torchrun is not None:
            self._torchrun.add(item, record)

    def _damage(self) -> str:
        """Return what the test has damaged in this process, and repair it where possible."""
        lost = lost_descriptors()
        if lost:
            folders.lock_again()
            where.wakeup()  # replaces its descriptor if that was lost
        told = [lost_descriptors_message(lost)] if lost else []
        return "\n\n".join([*told, *filter(None, [self._signals.take_own()])])

    def _show_or_keep_location(self, text: str) -> None:
        """Print where the test is; if the run is stopping, keep it for the report instead."""
        if not self._signals.interrupts:
            self._observer.say(text)
            return
        self._where = text
        # Under torchrun the grace period continues: the supervisor may still find out which process
        # has died.
        if self._torchrun is None:
            self._signals.stop_now()

    def _record_stopped_test(self) -> None:
        """Record the test that was running when the run stopped as an error."""
        item = self._item
        if item is None:
            return
        # The interrupt may also arrive just after the test's record.
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
