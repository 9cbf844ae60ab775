"""The entry point of a worker process, which runs the runner's tests one at a time.

The process is a fork of the preloaded fork server, or a fresh interpreter where forking is not
safe. Whatever a test does to it, the runner survives.

Two threads: the main thread runs tests and takes orders from a queue (`serve`); the other one reads
messages, so that the runner can ask where a test is while it runs (`_listen`).

How a test can harm the process, and what follows:

    closes the channel to the runner    the record goes to a file, and the process exits: no later
                                        message could arrive (`_write_record_and_exit`)
    closes another descriptor           the test fails, and the runner replaces the worker
    sends SIGTERM to this process       the test fails; a SIGTERM from the runner interrupts it
    forks                               the child exits when it returns from the test
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
    CHANNEL_CHECK_MS,
    OwnDescriptor,
    lost_descriptors,
    lost_descriptors_message,
)
from harness.ranks.launch import open_files, process, quit_key
from harness.ranks.launch.launcher import launcher
from harness.ranks.launch.preload import (
    forget_exit_handlers_of_the_server,
    plan_of_this_server,
    with_import_effects,
)
from harness.ranks.launch.preload_plan import DROPIN_MODULE
from harness.ranks.launch.process import become
from harness.ranks.launch.start_method import be_main_process
from harness.ranks.process_exit import (
    flush_output,
    join_threads_and_run_exit_handlers,
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
    """Serve the runner until it sends Leave or closes the channel, then end the process."""
    code = 1
    try:
        _set_up_process(spec, wanted.is_script)
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
    """End by SIGTERM, as if it were not handled, so that the exit status shows it."""
    # Python buffers output; the default action of SIGTERM would discard it.
    flush_output()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)


def _set_up_process(spec: WorkerSpec, is_script: bool) -> None:
    """Make this process end with the runner, and look like the user's own process to tests."""
    # In its own process group, so that the runner can stop or kill the worker together with the
    # children that a test has started, and so that Ctrl-C on the terminal reaches only the runner,
    # which decides what to do.
    os.setpgid(0, 0)
    quit_key.unblock()
    lifeline = process.attach()
    if lifeline is not None:
        OwnDescriptor(lifeline, "the pipe that ends the worker with the runner")
    forget_exit_handlers_of_the_server()
    # The worker must not share file positions with the server and its other forks.
    open_files.reopen()
    _apply_runner_state(spec, is_script)
    be_main_process()
    invocation.set_invocation(list(spec.command), spec.started_in)
    folders.use_part_of_session(Path(spec.session), Path(spec.short_session), spec.folder)
    terminal.use_terminal_of(spec.terminal)
    if spec.output:
        worker_output.redirect(Path(spec.output))
    # Prints the Python stack if a test crashes the process in native code.
    faulthandler.enable()
    if spec.unsafe:
        launcher().never_fork(spec.unsafe)
    elif plan_of_this_server() is not None:
        launcher().adopt()
    if settings.DROPIN.value():
        importlib.import_module(DROPIN_MODULE)
    # Only if torch is imported already: the runner also runs suites without torch.
    set_threads = getattr(sys.modules.get("torch"), "set_num_threads", None)
    if set_threads is not None and spec.threads:
        set_threads(spec.threads)
    _rename_main_module()


def _apply_runner_state(spec: WorkerSpec, is_script: bool) -> None:
    """Apply the runner's environment and paths, and what test modules changed at import."""
    # A script is the runner itself, so the runner's state already contains the changes.
    become(spec.surroundings if is_script else with_import_effects(spec.surroundings))


def _rename_main_module() -> None:
    """Make the imported copy of the user's script the module `__main__`, as in the script itself.

    multiprocessing imports the script as `__mp_main__`, which would be in the ids of its tests.
    """
    script = sys.modules.get("__mp_main__")
    if script is None:
        return
    sys.modules["__main__"] = script
    for value in vars(script).values():
        if isinstance(value, type) and value.__module__ == "__mp_main__":
            value.__module__ = "__main__"


class _Worker:
    """Serves the runner."""

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
        # Both threads send messages, and frames must not mix.
        self._lock = threading.Lock()
        self._unsent = b""
        # The test that runs or ran last; before the first test, the import of all files.
        self._test = TestRecord("import", Status.FAILED)
        # A fork of a server has imported the test modules. A fresh interpreter has to import all of
        # them before the first test, because one module may change what another one finds.
        self._has_modules = plan_of_this_server() is not None
        # Whether to skip the rest of the tests of the last RunTests.
        self._is_canceled = False
        self._output = worker_output.Reader(Path(spec.output)) if spec.output else None
        self._number = spec.number
        self._orders: queue.SimpleQueue[messages.Order | None] = queue.SimpleQueue()
        # Enable this before any test: a supervisor only checks for requests if it was enabled when
        # the supervisor started.
        where.enable(lambda text: self._send(messages.WhereAnswer(text)))
        listener = OwnThread(self._listen, (), "harness-worker")
        listener.start()
        change_in_forks([signal.SIGTERM], self._let_go_in_a_fork)

    def _let_go_in_a_fork(self) -> None:
        """Close the channel in a child that a test forks: its messages would be taken for ours."""
        self._connection.close()
        if signal.getsignal(signal.SIGTERM) is _interrupt:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def serve(self) -> None:
        """Process orders until the runner sends Leave or closes the channel."""
        signal.signal(signal.SIGTERM, _interrupt)
        with warnings_shown():
            self._forward_warnings()
            launcher().on_learned = self._report_imported
            while (order := self._orders.get()) is not None:
                self._do(order)
            self._performer.tear_down()
            # Inside `warnings_shown`, so that warnings of exit handlers are forwarded too.
            join_threads_and_run_exit_handlers()
        self._send(messages.Goodbye())

    def _listen(self) -> None:
        """Read messages in a thread, while the main thread runs a test."""
        reader = FrameReader(self._connection.fileno())
        poller = select.poll()
        poller.register(self._connection.fileno(), select.POLLIN)
        while not reader.closed:
            # With a limit: poll() does not return when another thread closes the descriptor.
            poller.poll(CHANNEL_CHECK_MS)
            if not self._channel.is_intact:
                self._record_closed_channel()
            for message in read(reader, messages.to_worker):
                match message:
                    case messages.WhereRequest():
                        where.ask()
                    case messages.CancelTests():
                        self._is_canceled = True
                    case messages.Leave():
                        self._orders.put(None)
                    case _:
                        self._orders.put(message)
        self._orders.put(None)

    def _report_imported(self, modules: Sequence[str]) -> None:
        self._send(messages.Imported(tuple(modules)))

    def _forward_warnings(self) -> None:
        """Send warnings to the runner, which prints each once for all workers."""

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
            case messages.TearDown():
                self._performer.tear_down()
                self._send(messages.TornDown())
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
            self._write_record_and_exit(
                structs.replace(self._test, troubles=[Trouble("ERROR", "import", damage)])
            )
        self._send(messages.Discovered(found))

    def _keep(self, tests: Mapping[Place, unittest.TestCase]) -> None:
        self._tests.update(tests)

    def _run_all(self, tests: Sequence[messages.TestToRun]) -> None:
        self._is_canceled = False
        for test in tests:
            if self._is_canceled:
                self._send(messages.Canceled(), at_once=False)
                continue
            self._report_start()
            with _devices(test.devices):
                blocked_by = self._run(test)
            self._send(messages.Done(blocked_by), at_once=False)
        self._flush()

    def _run(self, wanted: messages.TestToRun) -> str:
        """Run a test; return the fixture whose failure kept it from running, or an empty string."""
        _, test_id, _ = wanted.place
        self._test = TestRecord(test_id, Status.FAILED, copy=wanted.copy, started_s=now())
        if not self._has_modules:
            self._has_modules = True
            # Not at the start of the process: an error here belongs to a test, which can report it.
            discovery.load(self._wanted.files)
        try:
            test = self._find(wanted.place)
        except HarnessError as error:
            self._performer.fail(test_id, wanted.copy, str(error))
            return ""
        return self._performer.perform(test, test_id, wanted.copy, wanted.class_copy)

    def _report_start(self) -> None:
        printed = (0, 0)
        if self._output is not None:
            self._output.make_room()
            printed = self._output.printed
        self._send(messages.Started(now(), printed))

    def _find(self, place: Place) -> unittest.TestCase:
        """Return a new instance of the test each time it runs."""
        if place not in self._tests:
            self._keep(discovery.tests_in_module_of(place, self._wanted))
        return self._tests.pop(place)

    def _ended(self, record: TestRecord) -> None:
        record.worker = self._number
        # After a failure the runner decides what runs next (--failfast, --retries).
        self._is_canceled = self._is_canceled or record.status is Status.FAILED
        if self._output is not None:
            record.stdout, record.stderr = self._output.take()
        if not self._channel.is_intact:
            self._write_record_and_exit(record)
        self._send(messages.Ended(record), at_once=False)

    def _send(self, message: messages.FromWorker, at_once: bool = True) -> None:
        """Send a message, or queue it for the next one: one write instead of two per test."""
        with self._lock:
            self._unsent += frame(message)
        if at_once:
            self._flush()

    def _flush(self) -> None:
        with (
            self._lock,
            contextlib.suppress(OSError),
        ):  # the runner has ended, and this process will
            frames, self._unsent = self._unsent, b""
            if self._channel.is_intact:
                self._writer.send_frame(frames)

    # Damage that a test does to this process

    def _take_damage(self) -> str:
        """Return a description of the damage that the test did to this process; empty for none."""
        lost = lost_descriptors()
        if lost and self._channel not in lost:
            self._send(messages.Damaged(), at_once=False)  # the next test gets another worker
        own_signal = _own_signals.pop() if _own_signals else ""
        told = lost_descriptors_message(lost) if lost else ""
        return "\n\n".join(filter(None, [told, own_signal]))

    def _record_closed_channel(self) -> None:
        """Report the running test in the file: it has closed the channel to the runner."""
        trouble = Trouble("ERROR", self._test.key, lost_descriptors_message([self._channel]))
        self._write_record_and_exit(structs.replace(self._test, troubles=[trouble]))

    def _write_record_and_exit(self, record: TestRecord) -> NoReturn:
        """Write the record to the file that the runner reads, and exit."""
        with self._lock:  # both threads may get here; only the first one writes
            record.worker = self._number
            self._last_record.write_text(json.dumps(record.to_data()))
            # Without exit handlers: a test has damaged this process, and they might hang.
            os._exit(1)


def _devices(lent: Sequence[str]) -> contextlib.AbstractContextManager[None]:
    """Let the test and its ranks see only the devices that belong to it."""
    return changed(os.environ, {"CUDA_VISIBLE_DEVICES": ",".join(lent)} if lent else {})


# Signals that the runner sent to end this process, and the text about a signal of the test's own.
_terminated: list[int] = []
_own_signals: list[str] = []


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Handle SIGTERM: fail the test if it sent the signal itself; otherwise interrupt it."""
    if is_sent_by(frame):
        _own_signals[:] = [told_of_own(number)]
        raise RuntimeError(_own_signals[0])
    _terminated.append(number)
    raise KeyboardInterrupt
