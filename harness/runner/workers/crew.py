"""Runs tests in several workers at once: hands out, hears, replaces, ends. One loop, no threads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import assert_never

from harness.model import settings
from harness.model.clock import NEVER, Deadline, now
from harness.model.errors import UsageError
from harness.ranks.descriptors import readable
from harness.runner.ledger import Ledger, Observer
from harness.runner.results import TestRecord, with_outcome
from harness.runner.selection.planned_test import Found
from harness.runner.signals import RUN_TIMEOUT, Signals
from harness.runner.workers import messages, worker_death
from harness.runner.workers.hiring import Hiring
from harness.runner.workers.schedule import Item, Schedule
from harness.runner.workers.worker import Worker

# How long a worker may take to say where its test is (longer than its own patience with a test's
# ranks, `whereabouts.ANSWER_S`), and then to end it.
_WHERE_S = 4.0
_TERM_GRACE_S = 5.0
# How often the observer is shown that time passes.
_TICK_S = 0.2


@dataclass(frozen=True)
class Limits:
    """How long things may take.

    Attributes:
        test_s: time limit for a whole test, its fixtures included, in seconds; None for no limit.
        run: when the run must end.
    """

    test_s: float | None = None
    run: Deadline = NEVER


class Crew:
    """The workers of a run.

    Args:
        hiring: where they come from.
        jobs: how many there are at a time, at least 1.
        signals: what the user asks for meanwhile.
        observer: is told of everything.

    Attributes:
        stopped: why the run was stopped before its end; empty if it was not.
    """

    def __init__(self, hiring: Hiring, jobs: int, signals: Signals, observer: Observer) -> None:
        self._hiring = hiring
        self._jobs = jobs
        self._signals = signals
        self._observer = observer
        self._workers: list[Worker] = []
        self._leaving: list[Worker] = []
        self._resting: set[int] = set()
        self._warned: set[str] = set()
        self._found: Found | None = None
        self.stopped = ""

    # Before the tests

    def discover(self) -> Found:
        """Have the first worker import and select the tests; returns its answer.

        Raises:
            UsageError: if a name means nothing, or the worker dies over it.
        """
        worker = self._start(1)
        worker.tell(messages.Discover())
        while not worker.has_ended:
            readable(worker.open_fds, Deadline.after(_TICK_S))
            for message in worker.messages():
                self._hear(worker, message)
            if self._found is not None:
                return self._found
            if self._signals.take_suspension():
                self._suspend()
            self._observer.tick()
        out, err = worker.unread_output()
        raise UsageError(f"{worker_death.why_importing_ended(worker)}\n{out}{err}".rstrip())

    def _start(self, number: int) -> Worker:
        """Have a new worker with this number."""
        worker = self._hiring.start(number)
        self._workers.append(worker)
        return worker

    # While they run

    def run(
        self, rounds: Iterator[list[Item]], schedule: Schedule, ledger: Ledger, limits: Limits
    ) -> None:
        """Run all rounds, or until there is a reason to stop (which `stopped` then says)."""
        self._schedule, self._ledger, self._limits = schedule, ledger, limits
        self._rounds = rounds
        self._more()
        wanted = min(self._jobs, max(1, schedule.waiting))
        while len(self._workers) < wanted:
            self._start(len(self._workers) + 1)
        while self._goes_on():
            self._hand_out()
            self._turn()
        for worker in self._workers:
            worker.leave(settings.EXIT_TIMEOUT_S.value() + settings.START_TIMEOUT_S.value() / 10)
        self._leaving += self._workers
        self._workers = []
        while self._leaving:
            self._turn()

    def kill(self) -> None:
        """End all workers at once."""
        for worker in [*self._workers, *self._leaving]:
            worker.kill()

    def _more(self) -> None:
        """Take the next round when this one has been handed out."""
        while not self._schedule.waiting:
            items = next(self._rounds, None)
            if items is None:
                return
            self._schedule.add(items)

    def _goes_on(self) -> bool:
        self._look_for_reasons_to_stop()
        if not self.stopped:
            self._more()
        return bool(self._schedule.waiting or self._schedule.running)

    def _look_for_reasons_to_stop(self) -> None:
        if self._signals.interrupts and self.stopped != "interrupted":
            self._stop("interrupted")
            self._end_running()
        elif self.stopped:
            return
        elif self._ledger.has_enough:
            self._stop("enough failures")
        elif self._limits.run.expired:
            self._stop("out of time")
            self._end_running()

    def _stop(self, why: str) -> None:
        """Start nothing more."""
        self.stopped = why
        self._schedule.clear()
        for worker in self._workers:
            worker.drop()

    def _end_running(self) -> None:
        """End the tests that run, once they have said where they are, if they still can."""
        for worker in self._workers:
            if worker.current is not None and not worker.is_overdue and not worker.is_stopped:
                self._ask_before_the_end(worker)
            elif worker.items:
                worker.terminate(_TERM_GRACE_S)
            worker.is_stopped = True

    def _ask_before_the_end(self, worker: Worker) -> None:
        worker.deadline = Deadline.after(_WHERE_S)
        worker.tell(messages.WhereRequest())

    def _hand_out(self) -> None:
        """Give every worker that has nothing to do what it may run now."""
        if self.stopped:
            return
        if self._schedule.only_serial_left and not self._all_rest():
            return
        for worker in list(self._workers):
            if worker.items or worker.is_leaving:
                continue
            items = self._schedule.take(worker.number)
            if items and not worker.is_new and self._is_worn(worker, items[0]):
                worker = self._replace(worker)
            if items:
                worker.run(items)

    def _is_worn(self, worker: Worker, item: Item) -> bool:
        """Whether a test had better have a fresh worker."""
        if item.attempt > 1 or worker.is_damaged:
            return True
        return not item.test.fixture and self._hiring.has_better(worker)

    def _all_rest(self) -> bool:
        """Whether no worker holds a fixture; those that do are told to take it down."""
        if self._schedule.running:
            return False
        for worker in self._workers:
            if not worker.is_resting and not worker.is_leaving:
                worker.is_resting = True
                worker.began_s = None
                worker.tell(messages.Rest())
                self._resting.add(worker.number)
        return not self._resting

    def _replace(self, worker: Worker) -> Worker:
        """Let a worker go that has run tests, and have a fresh one in its place."""
        self._workers.remove(worker)
        worker.leave(settings.EXIT_TIMEOUT_S.value())
        self._leaving.append(worker)
        self._schedule.leave_fixtures(worker.number)
        return self._start(worker.number)

    def _turn(self) -> None:
        """Wait for news, and take them in."""
        workers = [*self._workers, *self._leaving]
        fds = [fd for worker in workers for fd in worker.open_fds]
        ready = readable([*fds, self._signals.fd], self._next_deadline(workers))
        self._signals.heed()
        if self._signals.interrupts > 1:
            self.kill()
        for worker in workers:
            if not ready.isdisjoint(worker.open_fds):
                self._take_in(worker)
        if self._signals.take_suspension():
            self._suspend()
        if self._signals.take_question():
            for worker in self._workers:
                worker.tell(messages.WhereRequest())
        self._see_to_deadlines()
        self._observer.tick()

    def _suspend(self) -> None:
        """Stop the run, as Ctrl-Z wants it, until the user continues it; no test's time runs out.

        The terminal stops only the runner's own process group, and workers are in others.
        """
        began_s, workers = now(), [*self._workers, *self._leaving]
        self._observer.hide()
        for worker in workers:
            worker.suspend()
        self._signals.suspend()
        for worker in workers:
            worker.resume(now() - began_s)
        self._observer.show()

    def _next_deadline(self, workers: list[Worker]) -> Deadline:
        soonest = Deadline.after(_TICK_S).sooner(self._limits.run if not self.stopped else NEVER)
        for worker in workers:
            soonest = soonest.sooner(worker.deadline)
        return soonest

    def _take_in(self, worker: Worker) -> None:
        has_ended = worker.has_ended  # if so, all that it will ever say has been said
        for message in worker.messages():
            self._hear(worker, message)
        if has_ended:
            self._bury(worker, worker.exit_code())

    def _hear(self, worker: Worker, message: messages.FromWorker) -> None:
        match message:
            case messages.Discovered(found):
                self._found = found
            case messages.Unusable(text):
                raise UsageError(text)
            case messages.Started(at_s, printed):
                self._hear_started(worker, at_s, printed)
            case messages.Ended(record):
                self._hear_ended(worker, with_outcome(record))
            case messages.Done(kept_by):
                self._hear_done(worker, kept_by)
            case messages.Dropped():
                self._hear_dropped(worker)
            case messages.Rested():
                self._resting.discard(worker.number)
            case messages.Goodbye():
                worker.said_goodbye = True
            case messages.Learned(modules):  # have new workers come out of a server with them, too
                self._hiring.learn(modules)
            case messages.Damaged():
                worker.is_damaged = True
            case messages.WarningShown(text):
                self._hear_warning(text)
            case messages.WhereAnswer(text):
                self._hear_where(worker, text)
            case _:
                assert_never(message)

    def _hear_started(self, worker: Worker, at_s: float, printed: tuple[int, int]) -> None:
        if not worker.items:
            return
        if worker.is_stopped:  # it began before it heard that it is to begin nothing
            worker.terminate(_TERM_GRACE_S)
        worker.began_s, worker.printed = at_s, printed
        if self._limits.test_s is not None and not worker.is_leaving:
            worker.deadline = Deadline(at_s + self._limits.test_s)
        self._observer.began(worker.items[0], worker.number, at_s)

    def _hear_ended(self, worker: Worker, record: TestRecord) -> None:
        if worker.current is None:
            self._take_late(worker, record)
        elif not worker.is_overdue:
            self._ledger.take(worker.current, record, is_last=worker.is_stopped)
            worker.has_record = worker.has_record or not record.is_fixture

    def _take_late(self, worker: Worker, record: TestRecord) -> None:
        """A fixture that was taken down after the last test of its class."""
        if worker.last is not None:
            self._ledger.take(worker.last, record)

    def _hear_done(self, worker: Worker, kept_by: str) -> None:
        if worker.current is None or worker.is_overdue:
            return
        item = worker.items.popleft()
        worker.last = item
        worker.has_record = False
        if kept_by:
            self._ledger.explain(item, kept_by)
        seconds = now() - (worker.began_s or now())
        worker.began_s = None
        if not worker.is_leaving:
            worker.deadline = NEVER
        self._finish(item, seconds)

    def _hear_dropped(self, worker: Worker) -> None:
        item = worker.items.popleft()
        if self.stopped:
            self._schedule.done(item, 0.0)
        else:
            self._schedule.give_back(item)

    def _finish(self, item: Item, seconds: float) -> None:
        self._schedule.done(item, seconds)
        if self._ledger.is_to_be_tried_again(item) and not self.stopped:
            self._schedule.add([item.again()])
        else:
            self._observer.done(item)

    def _hear_warning(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            self._observer.warn(text)

    def _hear_where(self, worker: Worker, text: str) -> None:
        worker.where = text
        if worker.is_overdue or worker.is_stopped:
            if worker.current is not None and not worker.was_terminated:
                worker.terminate(_TERM_GRACE_S)
            return
        current = worker.current
        if current is not None and worker.began_s is not None:
            lasted = f"{now() - worker.began_s:.1f} s"
            self._observer.say(f"{current.test.key}, for {lasted}:\n{worker.where}")

    # When something goes wrong

    def _see_to_deadlines(self) -> None:
        for worker in [*self._workers, *self._leaving]:
            if not worker.deadline.expired:
                continue
            if worker.is_leaving:
                worker.kill()
            elif not worker.is_overdue and not worker.is_stopped:
                worker.is_overdue = True
                self._ask_before_the_end(worker)
            else:  # it does not answer
                worker.terminate(_TERM_GRACE_S)

    def _bury(self, worker: Worker, code: int) -> None:
        """A worker has ended: report what it was at, and put another in its place."""
        is_extra = worker in self._leaving
        (self._leaving if is_extra else self._workers).remove(worker)
        self._resting.discard(worker.number)
        current = worker.current
        if current is not None:
            worker.items.popleft()
            if worker.is_overdue or not worker.was_terminated:
                record = worker_death.of_death(worker, current, code, self._limits.test_s)
                self._ledger.take(current, record)
                self._finish(current, 0.0)
            else:
                if not worker.has_record:  # else it was ended in a tear-down of its class
                    by = RUN_TIMEOUT if self.stopped == "out of time" else self._signals.stopped_by
                    record = worker_death.of_stopped_test(worker, current, by)
                    self._ledger.take(current, record, is_last=True)
                self._finish(current, 0.0)
        for item in worker.items:
            if self.stopped:
                self._schedule.done(item, 0.0)
            else:
                self._schedule.give_back(item)
        is_odd = (code != 0 or worker.was_terminated) and not self._was_interrupted
        if current is None and worker.last is not None and is_odd:
            self._ledger.take(worker.last, worker_death.of_bad_end(worker, worker.last, code))
        self._schedule.leave_fixtures(worker.number)
        worker.close()
        if not is_extra and not self.stopped:
            self._start(worker.number)

    @property
    def _was_interrupted(self) -> bool:
        return self.stopped in {"interrupted", "out of time"}
