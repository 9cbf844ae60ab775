"""A worker in the runner's hands: started, told what to run, heard, ended."""

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
    DropTests,
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

# Between the end of a process and the news of its exit code.
_DELIVERY_S = 5.0


class Worker:
    """One worker process.

    Attributes:
        number: which of the workers it is, from 1; its successor has the same.
        items: what it has been given and has not done, the one that it runs first.
        last: what it has done last.
        began_s: when it began with the first of its items; None if it has not yet.
        is_new: whether it has run nothing yet.
        is_resting: whether it holds no fixture.
        is_leaving: whether it has been told to leave.
        is_overdue: whether its test has taken longer than it may.
        is_stopped: whether the run has been stopped while it ran a test.
        is_damaged: whether a test has closed something that it needs.
        has_record: whether it has sent the record of what it runs.
        was_terminated: whether the runner has ended it.
        deadline: when the runner's patience with it ends.
        where: what it has said of where its test is.
        said_goodbye: whether it has ended in good order.
        server: the fork server that it came from.
        printed: how much of its output, on stdout and stderr, it has told of.
    """

    def __init__(
        self, spec: WorkerSpec, wanted: Wanted, factory: Callable[..., Any], server: object
    ) -> None:
        self.number = spec.number
        self.server = server
        self.items: deque[Item] = deque()
        self.began_s: float | None = None
        self.is_new = self.is_resting = True
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
            theirs.close()
        self._pidfd = os.pidfd_open(self.pid)
        self.said_goodbye = False

    @property
    def pid(self) -> int:
        return int(self._process.pid or 0)

    @property
    def has_ended(self) -> bool:
        """Whether the process has; what it has said may still be unread."""
        return bool(readable([self._pidfd], Deadline.after(0.0)))

    def exit_code(self) -> int:
        """The exit code of the process, which has ended.

        Its fork server delivers it. If that has died, how the worker ended is told by what it said.
        """
        # A process that the worker has forked may keep open what join() waits for.
        if self._process.exitcode is None:
            self._process.join(_DELIVERY_S)
        code: int | None = self._process.exitcode
        if code is None or self.is_lost:
            return 0 if self.said_goodbye else 255
        return code

    @property
    def is_lost(self) -> bool:
        """Whether its fork server died first, so that nobody knows its exit code."""
        return bool(getattr(self._process, "is_lost", False))

    @property
    def open_fds(self) -> list[int]:
        """Those become readable when there is news."""
        channel = [] if self._reader.closed else [self._connection.fileno()]
        return [self._pidfd, *channel]

    @property
    def current(self) -> Item | None:
        """What it runs now."""
        return self.items[0] if self.items and self.began_s is not None else None

    def messages(self) -> list[FromWorker]:
        found = read(self._reader, from_worker)
        if self.fault:  # nothing more can be heard of its test, but its end can be seen
            self._signal_group(signal.SIGKILL)
        return found

    @property
    def fault(self) -> str:
        """What came from it that is no message; empty if nothing did."""
        return self._reader.fault

    def run(self, items: list[Item]) -> None:
        """Give it tests to run."""
        self.items.extend(items)
        self.is_new = self.is_resting = False
        tests = (
            TestToRun(item.test.place, item.test.copy, item.test.class_copy, item.devices)
            for item in items
        )
        self.tell(RunTests(tuple(tests)))

    def drop(self) -> None:
        """Have it not begin what it has not begun."""
        self.tell(DropTests())

    def tell(self, message: ToWorker) -> None:
        with contextlib.suppress(OSError):  # it has died, which its exit code will tell
            self._writer.send_frame(frame(message))

    def leave(self, limit_s: float) -> None:
        """Have it take down its fixtures and leave."""
        if not self.is_leaving:
            self.is_leaving = True
            self.deadline = Deadline.after(limit_s)
            self.tell(Leave())

    def terminate(self, grace_s: float) -> None:
        """Have it end what it runs, as Ctrl-C would, and leave; it is killed after the grace."""
        self.is_leaving = self.was_terminated = True
        self.deadline = Deadline.after(grace_s)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(self.pid, signal.SIGTERM)
            os.kill(self.pid, signal.SIGCONT)

    def suspend(self) -> None:
        """Stop it until `resume()`. Its ranks go on as far as they get without it."""
        self._signal_group(signal.SIGSTOP)

    def resume(self, suspended_s: float) -> None:
        """Have it go on after so many seconds."""
        self._signal_group(signal.SIGCONT)
        self.deadline = self.deadline.later(suspended_s)

    def _signal_group(self, number: int) -> None:
        # It may be so new that it has no group of its own yet.
        for send in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                send(self.pid, number)

    def kill(self) -> None:
        """End it and what it has started at once; its ranks end with it."""
        self.is_leaving = self.was_terminated = True
        self.deadline = NEVER
        self._signal_group(signal.SIGKILL)

    def last_record(self) -> TestRecord | None:
        """Return the record that it left when a test cut it off; None if it did not.

        The process must have ended.
        """
        try:
            return record_from_data(json.loads(self._last_record.read_bytes()))
        except (OSError, ValueError):  # it was killed before it had written all of it
            return None

    def unread_output(self) -> tuple[str, str]:
        """What has been printed since the last test that it told of."""
        return Reader(Path(self._output), self.printed).take() if self._output else ("", "")

    def close(self) -> None:
        """Give back the descriptors. The process must have ended."""
        self._connection.close()
        os.close(self._pidfd)
