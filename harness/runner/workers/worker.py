"""One worker process as the runner sees it: its state, its messages, and how to end it.

`worker_pool` describes the states and decides on the transitions.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections import deque
from collections.abc import Callable
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

from harness.model.clock import NEVER, Deadline
from harness.ranks.channel import FrameReader, FrameWriter
from harness.ranks.descriptors import readable
from harness.ranks.launch import quit_key
from harness.ranks.typed_message import frame, read
from harness.runner.results import TestRecord, record_from_data
from harness.runner.workers.messages import (
    CancelTests,
    FromWorker,
    Leave,
    RunTests,
    TestToRun,
    ToWorker,
    from_worker,
)
from harness.runner.workers.schedule import Item
from harness.runner.workers.worker_main import worker_main
from harness.runner.workers.worker_output import Reader
from harness.runner.workers.worker_spec import Wanted, WorkerSpec

# How long the fork server may take to deliver the exit code of a process that has ended.
_DELIVERY_S = 5.0


class Worker:
    """One worker process.

    Attributes:
        number: the number of the worker, from 1; its successor has the same.
        items: the tests that it was given and has not finished, the running one first.
        last: the test that it finished last.
        began_s: when it started the first of its items; None if it has not.
        is_new: whether it has run nothing yet.
        has_fixtures: whether it may have fixtures of a class or module set up.
        is_leaving: whether it was told to exit.
        is_overdue: whether its test has exceeded --test-timeout.
        is_stopped: whether the run was stopped while it ran a test.
        is_damaged: whether a test has closed a descriptor that it needs.
        has_record: whether it has sent the record of the running test.
        was_terminated: whether the runner has sent it SIGTERM or SIGKILL.
        deadline: when the runner takes the next step to end the test or the worker.
        where: its last report of where its test is.
        said_goodbye: whether it has exited normally.
        server: the fork server that forked it.
        printed: how many bytes of its stdout and stderr the records contain so far.
    """

    def __init__(
        self, spec: WorkerSpec, wanted: Wanted, factory: Callable[..., Any], server: object
    ) -> None:
        self.number = spec.number
        self.server = server
        self.items: deque[Item] = deque()
        self.began_s: float | None = None
        self.is_new, self.has_fixtures = True, False
        self.last: Item | None = None
        self.is_leaving = False
        self.is_overdue = self.is_stopped = self.has_record = False
        self.is_damaged = False
        self.was_terminated = False
        self.deadline = NEVER
        self.where = ""
        self._output = spec.output
        self._last_record = Path(spec.last_record)
        self.printed = (0, 0)
        # A socket pair, so that either side notices at once when the other one ends.
        ours, theirs = Pipe(duplex=True)
        self._connection = ours
        self._reader = FrameReader(ours.fileno())
        self._writer = FrameWriter(ours.fileno())
        name = f"worker {spec.number}"
        self._process = factory(target=worker_main, name=name, args=(spec, theirs, wanted))
        try:
            with quit_key.blocked_in_new_processes():
                self._process.start()
        finally:
            # Otherwise this process would keep the worker's end open, and never see end of file.
            theirs.close()
        # A pidfd becomes readable when the process ends, whoever its parent is: workers are
        # children of the fork server, so the runner gets no SIGCHLD for them.
        self._pidfd = os.pidfd_open(self.pid)
        self.said_goodbye = False

    @property
    def pid(self) -> int:
        return int(self._process.pid or 0)

    @property
    def has_ended(self) -> bool:
        """Whether the process has ended; some of its messages may still be unread."""
        return bool(readable([self._pidfd], Deadline.after(0.0)))

    def exit_code(self) -> int:
        """Return the exit code of the process, which has ended.

        The fork server delivers it. If the server has died, the worker's last message decides.
        """
        # Not without a limit: a child that the worker forked may keep the descriptor open that
        # join() waits for.
        if self._process.exitcode is None:
            self._process.join(_DELIVERY_S)
        code: int | None = self._process.exitcode
        if code is None or self.is_lost:
            return 0 if self.said_goodbye else 255
        return code

    @property
    def is_lost(self) -> bool:
        """Whether its fork server died first, so that the exit code is unknown."""
        return bool(getattr(self._process, "is_lost", False))

    @property
    def open_fds(self) -> list[int]:
        """Return descriptors that become readable on a message, or when the process ends."""
        channel = [] if self._reader.closed else [self._connection.fileno()]
        return [self._pidfd, *channel]

    @property
    def current(self) -> Item | None:
        """The running test; None if no test has started."""
        return self.items[0] if self.items and self.began_s is not None else None

    def messages(self) -> list[FromWorker]:
        """Return the messages that have arrived; kill the worker if it sent something else."""
        found = read(self._reader, from_worker)
        if self.fault:  # no later message can be read, so its end has to be the result of the test
            self._signal_group(signal.SIGKILL)
        return found

    @property
    def fault(self) -> str:
        """A description of invalid data that the worker sent; empty if there was none."""
        return self._reader.fault

    def run(self, items: list[Item]) -> None:
        """Give it tests to run."""
        self.items.extend(items)
        self.is_new, self.has_fixtures = False, True
        tests = (
            TestToRun(item.test.place, item.test.copy, item.test.class_copy, item.devices)
            for item in items
        )
        self.send(RunTests(tuple(tests)))

    def cancel_waiting(self) -> None:
        """Do not start the tests that have not started."""
        self.send(CancelTests())

    def send(self, message: ToWorker) -> None:
        """Send a message; do nothing if the worker has died, which the runner notices anyway."""
        with contextlib.suppress(OSError):
            self._writer.send_frame(frame(message))

    def leave(self, limit_s: float) -> None:
        """Tell it to tear down its fixtures and exit, in at most `limit_s` seconds."""
        if not self.is_leaving:
            self.is_leaving = True
            self.deadline = Deadline.after(limit_s)
            self.send(Leave())

    def terminate(self, grace_s: float) -> None:
        """Have it interrupt its test as Ctrl-C would, and exit; kill it after the grace period."""
        self.is_leaving = self.was_terminated = True
        self.deadline = Deadline.after(grace_s)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(self.pid, signal.SIGTERM)
            os.kill(self.pid, signal.SIGCONT)  # in case the test has stopped it

    def suspend(self) -> None:
        """Stop it until `resume()`. Its ranks continue until they need it."""
        self._signal_group(signal.SIGSTOP)

    def resume(self, suspended_s: float) -> None:
        """Continue it after so many seconds."""
        self._signal_group(signal.SIGCONT)
        self.deadline = self.deadline.later(suspended_s)

    def _signal_group(self, number: int) -> None:
        # A new worker may not have its own process group yet.
        for send in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                send(self.pid, number)

    def kill(self) -> None:
        """Kill it and its process group; its ranks end with it."""
        self.is_leaving = self.was_terminated = True
        self.deadline = NEVER
        self._signal_group(signal.SIGKILL)

    def last_record(self) -> TestRecord | None:
        """Return the record that it wrote to a file when a test closed its channel; None if none.

        The process must have ended.
        """
        try:
            return record_from_data(json.loads(self._last_record.read_bytes()))
        except (OSError, ValueError):  # no file, or killed while writing it
            return None

    def unread_output(self) -> tuple[str, str]:
        """Return the stdout and stderr that no record contains yet."""
        return Reader(Path(self._output), self.printed).take() if self._output else ("", "")

    def close(self) -> None:
        """Close the descriptors. The process must have ended."""
        self._connection.close()
        os.close(self._pidfd)
