"""One run from the options to the exit code.

    find        import the test files and list their tests, in the first worker or, with -j 0, here
    choose      `-k`, shards, past failures, PyTorch's lists, the order
    run         in workers (`WorkerPool`) or in this process (`Alone`); results go to the ledger
    report      history, report files, the summary
    exit code   0 only if something ran, everything planned ran, and nothing failed

With workers, this process imports no test module: one that crashes at import only costs a worker.
With -j 0, a module or a test may call os.fork() and return in the child. So before it goes on, the
run checks that this is still the original process (`leave_if_fork_of`).
"""

from __future__ import annotations

import os
import shlex
import sys
import unittest
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.diagnosis.words import count
from harness.model import invocation, settings
from harness.model.clock import Deadline, now
from harness.model.errors import UsageError
from harness.ranks.process_exit import leave_if_fork_of
from harness.runner.history.history import History, check_history, open_history
from harness.runner.in_process import WORLD_LOST, Alone
from harness.runner.ledger import Ledger
from harness.runner.live_console import console_for
from harness.runner.options import (
    EXIT_FAILED,
    EXIT_NOTHING_RAN,
    EXIT_PASSED,
    Limits,
    Options,
    jobs_for,
    max_ranks_for,
)
from harness.runner.reports.text import one_line
from harness.runner.results import RunResult, Status, TestRecord, Trouble
from harness.runner.selection import discovery
from harness.runner.selection.choice import Choice, choose, rounds
from harness.runner.selection.planned_test import Found, Place
from harness.runner.selection.pytorch_lists import TestLists
from harness.runner.signals import Signals
from harness.runner.torchrun_journal import Resumed, TorchrunRun
from harness.runner.workers.schedule import Item, Schedule
from harness.runner.workers.worker_pool import WorkerPool
from harness.runner.workers.worker_spec import Wanted
from harness.runner.workers.worker_starter import WorkerStarter

_NO_RESULT = "was planned, but has no result: this is a bug in the runner, so the run fails"


class Execution:
    """A run.

    Args:
        options: the user's options.
        wanted: the tests to run.
        torchrun: what the run needs to know of torchrun; None if tests start their own ranks.
    """

    def __init__(
        self, options: Options, wanted: Wanted, torchrun: TorchrunRun | None = None
    ) -> None:
        self._options = options
        self._wanted = wanted
        self._torchrun = torchrun
        self._resumed = Resumed([])
        self._jobs = jobs_for(options, wanted.is_script) if torchrun is None else 0
        self._run = RunResult(
            command=shlex.join([*invocation.runner(), *sys.argv[1:]]),
            seed=settings.SEED.value(),
            jobs=self._jobs,
            max_skips=options.max_skips,
            flaky_fails=options.flaky_fails,
        )
        # A test may fork and return in the child; see `leave_if_fork_of`.
        self._pid = os.getpid()
        self._console = console_for(
            options.verbose or options.live_output,
            options.slow_s,
            live=not options.live_output,
            is_alone=self._jobs == 0,
        )
        self._tests: dict[Place, unittest.TestCase] = {}

    def run(self) -> int:
        """Find, run and report all tests; return the exit code.

        Raises:
            UsageError: before the first test, if the options are wrong.
        """
        # Report paths are checked first: a run of an hour must not end with "cannot write".
        reports = _checked_reports(self._options)
        lists = TestLists.from_environ()
        history = self._open_history()
        for problem in (*lists.problems, *([history.problem] if history else [])):
            if problem:
                self._console.warn(problem)
        with Signals(wakes=self._jobs > 0) as signals:
            found = self._find(signals)
            leave_if_fork_of(self._pid, 1 if found.broken else 0)
            # The history is read before the run and written after it, so a run never sees its own
            # results.
            choice = choose(found.tests, self._options, lists, history)
            self._remarks = [*self._wanted.remarks, *found.remarks]
            if self._options.list_only:
                return self._list(choice, found)
            self._record_modules(found)
            self._run_all(choice, found, signals)
        leave_if_fork_of(self._pid, 1)
        self._finish(history, reports)
        code = self._exit_code()
        if self._torchrun is not None and not self._run.interrupted:
            self._torchrun.finish(code)
        return code

    def _open_history(self) -> History | None:
        if not self._options.keeps_history or (self._options.list_only and not self._needs_history):
            return None
        return open_history(self._options.history)

    @property
    def _needs_history(self) -> bool:
        options = self._options
        return bool(options.rerun_failed or options.failed_first or options.shard)

    def _find(self, signals: Signals) -> Found:
        """Return the tests, which the first worker or this process lists."""
        # Imports may hang, and there is no loop that checks for Ctrl-C yet, so it raises.
        signals.raise_on_interrupt(True)
        try:
            if self._jobs == 0:
                return discovery.discover(self._wanted, self._tests.update)
            starter = WorkerStarter(
                self._wanted,
                self._jobs,
                capture=not self._options.live_output,
                failfast=self._options.max_fail == 1,
            )
            self._pool = WorkerPool(starter, self._jobs, signals, self._console)
            return self._pool.discover()
        finally:
            signals.raise_on_interrupt(False)

    def _list(self, choice: Choice, found: Found) -> int:
        for test in choice.tests:
            self._console.say(one_line(test.key))
        for remark in self._remarks if choice.tests else [*self._remarks, *choice.remarks]:
            self._console.warn(remark)
        for module, text in found.broken.items():
            print(f"{module} cannot be imported:\n{text}", file=sys.stderr)
        if found.broken or self._console.problem:
            return EXIT_FAILED
        return EXIT_PASSED if choice.tests else EXIT_NOTHING_RAN

    def _record_modules(self, found: Found) -> None:
        """Add records for the modules without tests: broken ones fail the run."""
        for name, text in found.broken.items():
            trouble = Trouble("ERROR", f"import of {name}", text)
            self._run.records.append(TestRecord(name, Status.FAILED, troubles=[trouble]))
        for name, reason in found.skipped.items():
            self._run.records.append(TestRecord(name, Status.SKIPPED, reason=reason))
        for record in self._run.records:
            self._console.module(record)

    def _run_all(self, choice: Choice, found: Found, signals: Signals) -> None:
        options = self._options
        self._run.found = found.count
        self._run.remarks += self._remarks
        self._run.shard_plan = choice.shard_plan
        self._run.shard = options.shard or (1, 1)
        ledger = Ledger(options.retries, options.max_fail, self._console)
        if self._torchrun is not None:
            self._console.say(self._torchrun.description)
            self._resumed = self._torchrun.resumed()
        for remark in choice.remarks:
            self._console.say(remark)
        limits = Limits(options.test_timeout_s, Deadline.after(options.run_timeout_s))
        try:
            pool = self._run_items(choice, found, signals, ledger, limits)
        finally:
            self._console.close()
        # The ledger, not the order of arrival, decides the order of the report.
        ledger.close(self._run)
        self._run.interrupted = pool.stopped in {"interrupted", "out of time", WORLD_LOST}
        if pool.stopped == "out of time":
            self._run.remarks.append(f"stopped after {options.run_timeout_s:g} s (--run-timeout)")
        self._remark_on_world(pool.stopped)
        # A run that stopped early has tests without results for a reason. In a complete run, a test
        # without a result means that the runner lost it; that must not look like success.
        if not pool.stopped:
            self._run.remarks += [f"lost: {key} {_NO_RESULT}" for key in ledger.lost()]
        # Without the time for reports and history.
        self._run.seconds = now() - self._run.started_s

    def _remark_on_world(self, stopped: str) -> None:
        """Add remarks about torchrun's world: a restart, or a lost process."""
        if self._torchrun is None:
            return
        if self._resumed.done:
            self._run.remarks.append(
                f"{self._resumed.done} of them had run before torchrun restarted the world"
            )
        if self._resumed.damaged:
            lost = count(self._resumed.damaged, "record")
            self._run.remarks.append(f"{lost} from before the restart cannot be read: run again")
        if stopped == WORLD_LOST:
            self._run.remarks.append(f"torchrun's world has lost {self._torchrun.why_lost()}")
            if self._torchrun.may_be_restarted:
                self._run.remarks.append("if torchrun restarts it, the run continues from here")

    def _run_items(
        self,
        choice: Choice,
        found: Found,
        signals: Signals,
        ledger: Ledger,
        limits: Limits,
    ) -> WorkerPool | Alone:
        options = self._options
        until = None if options.stress_s is None else Deadline.after(options.stress_s)
        repeated = rounds(choice.placed, options.repeat, until)
        items = self._announced(repeated, choice, ledger)
        if self._jobs == 0:
            alone = Alone(
                self._tests, signals, self._console, options.max_fail == 1, self._torchrun
            )
            alone.run(items, ledger, limits)
            return alone
        schedule = Schedule(
            choice.durations,
            self._jobs,
            max_ranks_for(options),
            found.devices if options.devices is None else options.devices,
            in_order=options.shuffle or options.failed_first,
        )
        self._pool.run(items, schedule, ledger, limits)
        return self._pool

    def _announced(
        self, items: Iterator[list[Item]], choice: Choice, ledger: Ledger
    ) -> Iterator[list[Item]]:
        """Yield the rounds after announcing them, without tests that have their result already.

        Those are tests that PyTorch's lists skip, in the first round, and tests that ran before
        torchrun restarted the world.
        """
        skipped = {Item(place, test): reason for place, test, reason in choice.skipped}
        for each in items:
            ledger.expect([*skipped, *each])
            self._console.expect([*skipped, *each])
            done = {item for item in each if self._resumed.settle(item, ledger.take)}
            for item in done:
                self._console.done(item)
            for item, reason in skipped.items():
                record = TestRecord(
                    item.test.test_id,
                    Status.SKIPPED,
                    reason=reason,
                    started_s=now(),
                    copy=item.test.copy,
                )
                ledger.take(item, record)
                self._console.done(item)
            # Only once, not in every round.
            skipped = {}
            yield [item for item in each if item not in done]

    def _finish(self, history: History | None, reports: Mapping[str, Any]) -> None:
        """Write history and reports, then print the summary."""
        if history is not None:
            before = history.problem
            history.record(self._resumed.without(self._run))
            if history.problem != before:
                self._console.warn(history.problem)
        self._report_problems: list[str] = []
        if reports:
            from harness.runner.reports.writing import write_reports

            self._report_problems = write_reports(self._run, **reports)
        self._run.remarks += self._report_problems
        self._console.summary(self._run)

    def _exit_code(self) -> int:
        is_incomplete = self._report_problems or self._console.problem
        return EXIT_FAILED if is_incomplete else self._run.exit_code


def _checked_reports(options: Options) -> Mapping[str, Path]:
    """Return the paths of the requested reports; absolute, since tests may chdir.

    Raises:
        UsageError: if a file cannot be written, or would overwrite another file of the run.
    """
    names = ("junit", "html", "trace", "records", "results")
    asked = {name: getattr(options, name) for name in names}
    if options.history is not None:
        check_history(options.history)
    if not any(asked.values()):
        return {}
    from harness.runner.reports.writing import check_reports

    reports = check_reports(**asked)
    for name, path in reports.items():
        if options.history is not None and Path(options.history).resolve() == path:
            raise UsageError(f"--{name} and --history both name {asked[name]}")
    return reports
