"""Run tests in several worker processes at once: one loop in one thread, no callbacks.

Each turn of the loop (`run`):

    1. `_check_for_stop`      Ctrl-C, --maxfail or --run-timeout stop the run
    2. `_assign_tests`        every idle worker gets tests from the schedule
    3. `_wait_and_process`    wait for messages, ended processes, signals and deadlines

The states of a worker; `Worker` has an attribute for each:

    idle            no items, not `is_leaving`
    running         `items`, and a test has started (`current`)
    tearing down    runs the fixtures of its last class before serial tests (`has_fixtures`)
    overdue         its test exceeded --test-timeout (`is_overdue`): it was asked where the test is
    stopped         the run was stopped while it ran a test (`is_stopped`): asked in the same way
    terminated      SIGTERM was sent (`was_terminated`); SIGKILL follows after the grace period
    leaving         was told to exit (`is_leaving`); in `Workers.leaving`
    ended           the process has ended: `_handle_end` reports its test, and starts a successor
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

from harness.model.clock import NEVER, Deadline, now
from harness.model.errors import UsageError
from harness.ranks.descriptors import readable
from harness.runner.ledger import Ledger, Observer
from harness.runner.options import Limits
from harness.runner.results import TestRecord, with_outcome
from harness.runner.selection.planned_test import Found
from harness.runner.signals import RUN_TIMEOUT, Signals
from harness.runner.workers import messages, worker_death
from harness.runner.workers.schedule import Item, Schedule
from harness.runner.workers.worker import Worker
from harness.runner.workers.worker_starter import Workers, WorkerStarter

# How long a worker may take to report where its test is. The worker itself waits for the test's
# ranks for `where.ANSWER_S`, so this must be longer.
_WHERE_S = 4.0
# The time from SIGTERM to SIGKILL. The test ends its ranks and runs its cleanups meanwhile.
_TERM_GRACE_S = 5.0
# How often the observer updates the elapsed times on the terminal.
_TICK_S = 0.2


class WorkerPool:
    """The workers of a run, and the loop that runs tests in them.

    Args:
        starter: starts workers.
        jobs: how many workers run at a time, at least 1.
        signals: the signals that the user sends during the run.
        observer: shows the progress.

    Attributes:
        stopped: why the run stopped before its end; empty if it did not.
    """

    def __init__(
        self, starter: WorkerStarter, jobs: int, signals: Signals, observer: Observer
    ) -> None:
        self._starter = starter
        self._jobs = jobs
        self._signals = signals
        self._observer = observer
        self._workers = Workers(starter)
        # Workers that still tear down fixtures; serial tests wait until this is empty.
        self._tearing_down: set[int] = set()
        self._warned: set[str] = set()
        self._found: Found | None = None
        self.stopped = ""

    # Before the tests

    def discover(self) -> Found:
        """Start the first worker, and have it import the files and select the tests.

        The runner never imports test modules itself, so that they cannot crash it.

        Raises:
            UsageError: if a name matches no test, or the worker dies during an import.
        """
        worker = self._workers.start(1)
        worker.send(messages.Discover())
        while not worker.has_ended:
            readable(worker.open_fds, Deadline.after(_TICK_S))
            for message in worker.messages():
                self._handle_message(worker, message)
            if self._found is not None:
                return self._found
            if self._signals.take_suspension():
                self._suspend()
            self._observer.tick()
        out, err = worker.unread_output()
        raise UsageError(f"{worker_death.why_discovery_ended(worker)}\n{out}{err}".rstrip())

    # The loop

    def run(
        self, rounds: Iterator[list[Item]], schedule: Schedule, ledger: Ledger, limits: Limits
    ) -> None:
        """Run all rounds of tests; return early with the reason in `stopped` if the run stops.

        Args:
            rounds: the repetitions, each a list of items (--repeat, --stress).
            schedule: decides what runs next; empty at first.
            ledger: collects the records of tests.
            limits: the time limits.
        """
        self._rounds, self._schedule = rounds, schedule
        self._ledger, self._limits = ledger, limits
        self._add_rounds()
        # Do not start workers that would have nothing to do: each costs a fork and tens of MiB.
        wanted = min(self._jobs, max(1, schedule.waiting))
        while len(self._workers.active) < wanted:
            self._workers.start(len(self._workers.active) + 1)
        while self._has_work():
            self._assign_tests()
            self._wait_and_process()
        self._workers.leave()
        while self._workers.leaving:
            self._wait_and_process()

    def kill(self) -> None:
        """End all workers at once."""
        self._workers.kill()

    def _add_rounds(self) -> None:
        """Add rounds to the schedule until a test waits in it, or no round is left."""
        while not self._schedule.waiting:
            items = next(self._rounds, None)
            if items is None:
                return
            self._schedule.add(items)

    def _has_work(self) -> bool:
        self._check_for_stop()
        if not self.stopped:
            self._add_rounds()
        return bool(self._schedule.waiting or self._schedule.running)

    def _check_for_stop(self) -> None:
        # Ctrl-C during another stop (--maxfail) also ends the tests that still run.
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
        """Start no more tests. Tests that run go on; see `_end_running`."""
        self.stopped = why
        self._schedule.clear()
        for worker in self._workers.active:
            worker.cancel_waiting()

    def _end_running(self) -> None:
        """End the running tests. Each worker first reports where its test is, if it still can."""
        for worker in self._workers.active:
            # A worker that is overdue was asked already; asking again would extend its deadline.
            if worker.current is not None and not worker.is_overdue and not worker.is_stopped:
                self._ask_where(worker)
            elif worker.items:
                worker.terminate(_TERM_GRACE_S)
            worker.is_stopped = True

    def _ask_where(self, worker: Worker) -> None:
        """Ask where the test is. The answer, or the deadline, leads to `terminate`."""
        worker.deadline = Deadline.after(_WHERE_S)
        worker.send(messages.WhereRequest())

    def _assign_tests(self) -> None:
        """Give every idle worker the tests that it may run now."""
        if self.stopped:
            return
        if self._schedule.only_serial_left and not self._fixtures_are_down():
            return
        for worker in list(self._workers.active):
            if worker.items or worker.is_leaving:
                continue
            items = self._schedule.take(worker.number)
            if items and not worker.is_new and self._needs_fresh_worker(worker, items[0]):
                self._schedule.release_fixtures(worker.number)
                worker = self._workers.replace(worker)
            if items:
                worker.run(items)

    def _needs_fresh_worker(self, worker: Worker, item: Item) -> bool:
        """Whether to replace the worker before it runs this test."""
        # A retry must not fail again because of what the first attempt left in the process.
        if item.attempt > 1 or worker.is_damaged:
            return True
        # Replacing a worker in the middle of a class would set up the class's fixture again.
        return not item.test.fixture and self._starter.has_newer_server(worker)

    def _fixtures_are_down(self) -> bool:
        """Whether no worker has fixtures set up; tells those that have to tear them down.

        A serial test must run alone. The fixture of another worker's class (a server, a child
        process) would run beside it.
        """
        if self._schedule.running:
            return False
        for worker in self._workers.active:
            if worker.has_fixtures and not worker.is_leaving:
                worker.has_fixtures = False
                worker.began_s = None
                worker.send(messages.TearDown())
                self._tearing_down.add(worker.number)
        return not self._tearing_down

    def _wait_and_process(self) -> None:
        """Wait for messages, ended processes, signals or a deadline, and process them."""
        workers = self._workers.all
        fds = [fd for worker in workers for fd in worker.open_fds]
        ready = readable([*fds, self._signals.fd], self._next_deadline(workers))
        self._signals.drain()
        if self._signals.interrupts > 1:
            self.kill()
        for worker in workers:
            if not ready.isdisjoint(worker.open_fds):
                self._read(worker)
        if self._signals.take_suspension():
            self._suspend()
        if self._signals.take_question():
            for worker in self._workers.active:
                worker.send(messages.WhereRequest())
        self._check_deadlines()
        self._observer.tick()

    def _suspend(self) -> None:
        """Suspend the run after Ctrl-Z until the user continues it."""
        self._observer.hide()
        self._workers.suspend_during(self._signals.suspend)
        self._observer.show()

    def _next_deadline(self, workers: list[Worker]) -> Deadline:
        soonest = Deadline.after(_TICK_S).sooner(self._limits.run if not self.stopped else NEVER)
        for worker in workers:
            soonest = soonest.sooner(worker.deadline)
        return soonest

    def _read(self, worker: Worker) -> None:
        # Check before reading: a process that had ended by now has sent all its messages.
        has_ended = worker.has_ended
        for message in worker.messages():
            self._handle_message(worker, message)
        if has_ended:
            self._handle_end(worker, worker.exit_code())

    def _handle_message(self, worker: Worker, message: messages.FromWorker) -> None:
        match message:
            case messages.Discovered(found):
                self._found = found
            case messages.Unusable(text):
                raise UsageError(text)
            case messages.Started(at_s, printed):
                self._handle_started(worker, at_s, printed)
            case messages.Ended(record):
                self._handle_record(worker, with_outcome(record))
            case messages.Done(blocked_by):
                self._handle_done(worker, blocked_by)
            case messages.Canceled():
                self._handle_canceled(worker)
            case messages.TornDown():
                self._tearing_down.discard(worker.number)
            case messages.Goodbye():
                worker.said_goodbye = True
            case messages.Imported(modules):
                self._starter.preload(modules)
            case messages.Damaged():
                worker.is_damaged = True
            case messages.WarningShown(text):
                self._handle_warning(text)
            case messages.WhereAnswer(text):
                self._handle_where(worker, text)
            case _:
                assert_never(message)

    def _handle_started(self, worker: Worker, at_s: float, printed: tuple[int, int]) -> None:
        if not worker.items:
            return
        # The worker started this test before it received the message that cancels it.
        if worker.is_stopped:
            worker.terminate(_TERM_GRACE_S)
        worker.began_s, worker.printed = at_s, printed
        if self._limits.test_s is not None and not worker.is_leaving:
            worker.deadline = Deadline(at_s + self._limits.test_s)
        self._observer.began(worker.items[0], worker.number, at_s)

    def _handle_record(self, worker: Worker, record: TestRecord) -> None:
        if worker.current is None:
            # A fixture that was torn down after the last test of its class.
            if worker.last is not None:
                self._ledger.take(worker.last, record)
        elif not worker.is_overdue:
            self._ledger.take(worker.current, record, is_last=worker.is_stopped)
            worker.has_record = worker.has_record or not record.is_fixture

    def _handle_done(self, worker: Worker, blocked_by: str) -> None:
        if worker.current is None or worker.is_overdue:
            return
        item = worker.items.popleft()
        worker.last = item
        worker.has_record = False
        if blocked_by:
            self._ledger.explain(item, blocked_by)
        seconds = now() - (worker.began_s or now())
        worker.began_s = None
        if not worker.is_leaving:
            worker.deadline = NEVER
        self._finish(item, seconds)

    def _handle_canceled(self, worker: Worker) -> None:
        item = worker.items.popleft()
        if self.stopped:
            self._schedule.done(item, 0.0)
        else:
            self._schedule.put_back(item)

    def _finish(self, item: Item, seconds: float) -> None:
        self._schedule.done(item, seconds)
        if self._ledger.needs_retry(item) and not self.stopped:
            self._schedule.add([item.next_attempt()])
        else:
            self._observer.done(item)

    def _handle_warning(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            self._observer.warn(text)

    def _handle_where(self, worker: Worker, text: str) -> None:
        worker.where = text
        if worker.is_overdue or worker.is_stopped:
            if worker.current is not None and not worker.was_terminated:
                worker.terminate(_TERM_GRACE_S)
            return
        current = worker.current
        if current is not None and worker.began_s is not None:
            lasted = f"{now() - worker.began_s:.1f} s"
            self._observer.say(f"{current.test.key}, for {lasted}:\n{worker.where}")

    # Timeouts and the end of a worker

    def _check_deadlines(self) -> None:
        for worker in self._workers.all:
            if not worker.deadline.expired:
                continue
            if worker.is_leaving:
                worker.kill()
            elif not worker.is_overdue and not worker.is_stopped:
                # First ask where the test is, for the report; the worker is ended when it answers,
                # or at the next deadline.
                worker.is_overdue = True
                self._ask_where(worker)
            else:  # no answer to `_ask_where` in time
                worker.terminate(_TERM_GRACE_S)

    def _handle_end(self, worker: Worker, code: int) -> None:
        """Report the test of a worker that has ended, and start another worker in its place.

        Three cases. The worker died, or its test exceeded its limit: the test fails. The runner
        ended it because the run stopped: the test is reported as stopped. No test was running: an
        exit code other than 0 is reported as a failed teardown.
        """
        was_leaving = self._workers.remove(worker)
        self._tearing_down.discard(worker.number)
        current = worker.current
        if current is not None:
            worker.items.popleft()
            if worker.is_overdue or not worker.was_terminated:
                record = worker_death.death_record(worker, current, code, self._limits.test_s)
                self._ledger.take(current, record)
            # With a record, the test was over: only a teardown of its class was interrupted.
            elif not worker.has_record:
                by = RUN_TIMEOUT if self.stopped == "out of time" else self._signals.stopped_by
                record = worker_death.stopped_record(worker, current, by)
                self._ledger.take(current, record, is_last=True)
            self._finish(current, 0.0)
        for item in worker.items:
            if self.stopped:
                self._schedule.done(item, 0.0)
            else:
                self._schedule.put_back(item)
        was_interrupted = self.stopped in {"interrupted", "out of time"}
        is_failure = (code != 0 or worker.was_terminated) and not was_interrupted
        if current is None and worker.last is not None and is_failure:
            self._ledger.take(worker.last, worker_death.exit_record(worker, worker.last, code))
        self._schedule.release_fixtures(worker.number)
        worker.close()
        if not was_leaving and not self.stopped:
            self._workers.start(worker.number)
