"""The entry of a worker: a process that runs the tests that the runner gives it, one at a time.

It is a fork of the preloaded fork server, or a fresh interpreter where forking is not safe. What a
test does to it, down to killing it, the runner survives.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import json
import os
import queue
import select
import signal
import sys
import threading
import traceback
import unittest
import warnings
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import NoReturn, TextIO, assert_never

from msgspec import structs

from harness.model import invocation, settings
from harness.model.clock import now
from harness.model.errors import HarnessError
from harness.model.own_thread import OwnThread
from harness.model.temporarily import changed
from harness.ranks import folders
from harness.ranks.channel import FrameReader, FrameWriter
from harness.ranks.descriptors import (
    LOOK_MS,
    OwnDescriptor,
    lost_descriptors,
    lost_descriptors_message,
)
from harness.ranks.launch import import_effects, open_files, process, quit_key
from harness.ranks.launch.launcher import launcher
from harness.ranks.launch.preload import forget_exit_handlers_of_the_server, plan_of_this_server
from harness.ranks.launch.preload_plan import DROPIN_MODULE
from harness.ranks.launch.process import become
from harness.ranks.launch.start_method import be_main_process
from harness.ranks.process_exit import (
    end_as_an_interpreter_does,
    flush_output,
    leave,
    leave_if_fork_of,
)
from harness.ranks.typed_message import frame, read
from harness.ranks.watch import terminal, where
from harness.runner.results import Status, TestRecord, Trouble
from harness.runner.selection import discovery
from harness.runner.selection.planned_test import Place
from harness.runner.signals import change_in_forks, is_sent_by, told_of_own
from harness.runner.workers import messages, worker_output
from harness.runner.workers.performer import Performer, warnings_shown
from harness.runner.workers.worker_spec import Wanted, WorkerSpec


def worker_main(spec: WorkerSpec, connection: Connection, wanted: Wanted) -> NoReturn:
    """Serve the runner until it says goodbye, and end the process."""
    code = 1
    try:
        _settle_in(spec, wanted.is_script)
        _Worker(spec, connection, wanted).serve()
        code = 0
    except KeyboardInterrupt:
        if _terminated:
            _die_of_sigterm()
    except BaseException:
        traceback.print_exc()
    finally:
        leave(code)


def _die_of_sigterm() -> None:
    """End as a process does that does not handle SIGTERM, for the runner to tell how it ended."""
    flush_output()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)


def _settle_in(spec: WorkerSpec, is_script: bool) -> None:
    """Be a process of its own that ends with the runner, and is like the user's own process."""
    os.setpgid(0, 0)
    quit_key.unblock()
    lifeline = process.attach()
    if lifeline is not None:
        OwnDescriptor(lifeline, "the pipe that ends the worker with the runner")
    forget_exit_handlers_of_the_server()
    open_files.reopen()
    _become(spec, is_script)
    be_main_process()
    invocation.tell(list(spec.command), spec.started_in)
    folders.use_part_of_session(Path(spec.session), Path(spec.short_session), spec.folder)
    terminal.use_terminal_of(spec.terminal)
    if spec.output:
        worker_output.redirect(Path(spec.output))
    faulthandler.enable()
    if spec.unsafe:
        launcher().never_fork(spec.unsafe)
    elif plan_of_this_server() is not None:
        launcher().adopt()
    if settings.DROPIN.value():
        importlib.import_module(DROPIN_MODULE)
    set_threads = getattr(sys.modules.get("torch"), "set_num_threads", None)
    if set_threads is not None and spec.threads:
        set_threads(spec.threads)
    _run_main_as_main()


def _become(spec: WorkerSpec, is_script: bool) -> None:
    """Take over the runner's state, with what the test modules have done to it when imported."""
    state = import_effects.ProcessState(spec.environ, spec.cwd, spec.sys_path, spec.argv)
    if not is_script:  # the runner is a script that has imported them itself
        state = import_effects.with_changes(state)
    become(environ=state.environ, cwd=state.cwd, sys_path=state.sys_path, argv=state.argv)


def _run_main_as_main() -> None:
    """Have the tests of the script that was started be found under the name that it has there."""
    script = sys.modules.get("__mp_main__")
    if script is None:
        return
    sys.modules["__main__"] = script
    for value in vars(script).values():
        if isinstance(value, type) and value.__module__ == "__mp_main__":
            value.__module__ = "__main__"


class _Worker:
    def __init__(self, spec: WorkerSpec, connection: Connection, wanted: Wanted) -> None:
        self._pid = os.getpid()
        self._connection = connection
        self._channel = OwnDescriptor(connection.fileno(), "the worker's channel to the runner")
        self._last_record = Path(spec.last_record)
        self._writer = FrameWriter(connection.fileno())
        self._wanted = wanted
        self._tests: dict[Place, unittest.TestCase] = {}
        self._performer = Performer(
            self._ended, spec.failfast, self._take_damage, lambda: bool(_terminated)
        )
        self._lock = threading.Lock()
        self._unsent = b""
        # What runs now, or ran last; before the first test, the import of all.
        self._test = TestRecord("import", Status.FAILED)
        # A fork of a server has the test modules; a fresh interpreter has to import all of them, as
        # the user's process does, before a test runs: one may change what others find.
        self._has_modules = plan_of_this_server() is not None
        # Whether to begin nothing more of what it was given last.
        self._drops = False
        self._output = worker_output.Reader(Path(spec.output)) if spec.output else None
        self._number = spec.number
        self._orders: queue.SimpleQueue[messages.Order | None] = queue.SimpleQueue()
        # From the start: the supervisor of a test looks for questions only if somebody may ask.
        where.enable(lambda text: self._send(messages.WhereAnswer(text)))
        listener = OwnThread(self._listen, (), "harness-worker")
        listener.start()
        change_in_forks([signal.SIGTERM], self._let_go_in_a_fork)

    def _let_go_in_a_fork(self) -> None:
        """A process that a test forks does not speak for the worker."""
        self._connection.close()
        if signal.getsignal(signal.SIGTERM) is _interrupt:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def serve(self) -> None:
        """Do what the runner says until it says nothing more."""
        signal.signal(signal.SIGTERM, _interrupt)
        with warnings_shown():
            self._tell_warnings()
            launcher().on_learned = self._tell_learned
            while (order := self._orders.get()) is not None:
                self._do(order)
            self._performer.rest()
            # Within reach of the runner's ears: what is warned of at the exit is told, too.
            end_as_an_interpreter_does()
        self._send(messages.Goodbye())

    def _listen(self) -> None:
        """A thread: hear the runner while the main thread runs a test."""
        reader = FrameReader(self._connection.fileno())
        poller = select.poll()
        poller.register(self._connection.fileno(), select.POLLIN)
        while not reader.closed:
            # The kernel says nothing of a descriptor that is closed while somebody waits for it.
            poller.poll(LOOK_MS)
            if not self._channel.is_intact:
                self._record_closed_channel()
            for message in read(reader, messages.to_worker):
                match message:
                    case messages.WhereRequest():
                        where.ask()
                    case messages.DropTests():
                        self._drops = True
                    case messages.Leave():
                        self._orders.put(None)
                    case _:
                        self._orders.put(message)
        self._orders.put(None)

    def _tell_learned(self, modules: Sequence[str]) -> None:
        self._send(messages.Learned(tuple(modules)))

    def _tell_warnings(self) -> None:
        """Have the runner print warnings: once, though several workers may give the same one."""

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            shown = warnings.formatwarning(message, category, filename, lineno, line)
            self._send(messages.WarningShown(shown))

        warnings.showwarning = show

    def _do(self, order: messages.Order) -> None:
        match order:
            case messages.Discover():
                self._discover()
            case messages.RunTests(tests):
                self._run_all(tests)
            case messages.Rest():
                self._performer.rest()
                self._send(messages.Rested())
            case _:
                assert_never(order)

    def _discover(self) -> None:
        self._has_modules = True
        try:
            found = discovery.discover(self._wanted, self._keep)
        except HarnessError as error:
            leave_if_fork_of(self._pid, 1)
            self._send(messages.Unusable(str(error)))
            return
        leave_if_fork_of(self._pid, 0)
        if damage := self._take_damage():
            self._leave_record(
                structs.replace(self._test, troubles=[Trouble("ERROR", "import", damage)])
            )
        self._send(messages.Discovered(found))

    def _keep(self, tests: Mapping[Place, unittest.TestCase]) -> None:
        self._tests.update(tests)

    def _run_all(self, tests: Sequence[messages.TestToRun]) -> None:
        self._drops = False
        for test in tests:
            if self._drops:
                self._send(messages.Dropped(), at_once=False)
                continue
            self._begin()
            with _devices(test.devices):
                kept_by = self._run(test)
            self._send(messages.Done(kept_by), at_once=False)
        self._flush()

    def _run(self, wanted: messages.TestToRun) -> str:
        """Run a test; returns the fixture that failed and kept it from running, if one did."""
        _, test_id, _ = wanted.place
        self._test = TestRecord(test_id, Status.FAILED, copy=wanted.copy, started_s=now())
        if not self._has_modules:
            self._has_modules = True
            discovery.load(self._wanted.files)
        try:
            test = self._find(wanted.place)
        except HarnessError as error:
            self._performer.fail(test_id, wanted.copy, str(error))
            return ""
        return self._performer.perform(test, test_id, wanted.copy, wanted.class_copy)

    def _begin(self) -> None:
        printed = (0, 0)
        if self._output is not None:
            self._output.make_room()
            printed = self._output.printed
        self._send(messages.Started(now(), printed))

    def _find(self, place: Place) -> unittest.TestCase:
        """The test; a fresh instance for each time that it is run."""
        if place not in self._tests:
            self._keep(discovery.tests_in_module_of(place, self._wanted))
        return self._tests.pop(place)

    def _ended(self, record: TestRecord) -> None:
        record.worker = self._number
        # After a failure, the runner may want to go on otherwise.
        self._drops = self._drops or record.status is Status.FAILED
        if self._output is not None:
            record.stdout, record.stderr = self._output.take()
        if not self._channel.is_intact:
            self._leave_record(record)
        self._send(messages.Ended(record), at_once=False)

    def _send(self, message: messages.FromWorker, at_once: bool = True) -> None:
        """Tell the runner; what can wait goes with what comes next, which is half the work."""
        with self._lock:
            self._unsent += frame(message)
        if at_once:
            self._flush()

    def _flush(self) -> None:
        with self._lock, contextlib.suppress(OSError):  # the runner has gone, so will this process
            frames, self._unsent = self._unsent, b""
            if self._channel.is_intact:
                self._writer.send_frame(frames)

    # A test that has cut this process off from the runner

    def _take_damage(self) -> str:
        """Return what the test has done to this process, in words."""
        lost = lost_descriptors()
        if lost and self._channel not in lost:
            self._send(messages.Damaged(), at_once=False)  # have the next test in another worker
        own_signal = _own_signals.pop() if _own_signals else ""
        told = lost_descriptors_message(lost) if lost else ""
        return "\n\n".join(filter(None, [told, own_signal]))

    def _record_closed_channel(self) -> None:
        """A thread: the test that runs cannot be told of otherwise any more."""
        trouble = Trouble("ERROR", self._test.key, lost_descriptors_message([self._channel]))
        self._leave_record(structs.replace(self._test, troubles=[trouble]))

    def _leave_record(self, record: TestRecord) -> NoReturn:
        """Write a record to where the runner looks for it, and end this process."""
        with self._lock:  # there is one last record
            record.worker = self._number
            self._last_record.write_text(json.dumps(record.to_data()))
            os._exit(1)


def _devices(lent: Sequence[str]) -> contextlib.AbstractContextManager[None]:
    """Have the test and its ranks see only the devices that were lent to it."""
    return changed(os.environ, {"CUDA_VISIBLE_DEVICES": ",".join(lent)} if lent else {})


# Whether the process is to end, and what a test has done that would have ended it.
_terminated: list[int] = []
_own_signals: list[str] = []


def _interrupt(number: int, frame: FrameType | None) -> None:
    """The runner has the running test ended, as Ctrl-C would; or the test has sent this itself."""
    if is_sent_by(frame):
        _own_signals[:] = [told_of_own(number)]
        raise RuntimeError(_own_signals[0])
    _terminated.append(number)
    raise KeyboardInterrupt
