"""Start and use Python's fork server, with our modules preloaded and a proof that forks are safe.

`multiprocessing.forkserver` forks, and delivers the exit codes. The harness adds the modules that
the server imports, its report before the first fork, and more than one server: a server with more
modules can take over while processes of the old one still run.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import threading
import weakref
from collections.abc import Mapping
from multiprocessing import (
    forkserver,
    resource_tracker,
)
from multiprocessing.process import current_process
from types import MappingProxyType
from typing import Any

from harness.model.clock import Deadline
from harness.model.temporarily import changed
from harness.ranks import folders
from harness.ranks.descriptors import OwnDescriptor, readable
from harness.ranks.launch import quit_key
from harness.ranks.launch.forked_process import ForkedProcess
from harness.ranks.launch.preload_plan import PLAN_VARIABLE, PreloadPlan, PreloadReport, covers
from harness.ranks.launch.start_method import undecided

_start_lock = threading.Lock()
_server_pids: set[int] = set()
_count = itertools.count(1)


def server_pids() -> frozenset[int]:
    """Return the process ids of the fork servers that this process has started."""
    return frozenset(_server_pids)


_servers: weakref.WeakSet[ForkServer] = weakref.WeakSet()


def _let_go_in_a_fork() -> None:
    """Close the lifelines of the servers in a fork of this process.

    Otherwise the servers would outlive this process for as long as the fork lives.
    """
    for server in _servers:
        server.let_go()


os.register_at_fork(after_in_child=_let_go_in_a_fork)


def _forget_lost_tracker() -> None:
    """Make Python's resource tracker restart if a test has closed the pipe to it.

    Otherwise CPython (3.11 to 3.14) writes to that descriptor number, or closes it, whatever file
    it refers to by then.
    """
    tracker: Any = resource_tracker._resource_tracker
    with tracker._lock:
        if _tracker_pipe and _tracker_pipe[0].fd == tracker._fd and not _tracker_pipe[0].is_intact:
            _tracker_pipe[0].forget()
            tracker._fd = tracker._pid = None


def _remember_tracker() -> None:
    fd = resource_tracker._resource_tracker._fd  # type: ignore[attr-defined]
    if fd is not None:
        for known in _tracker_pipe:
            known.forget()
        _tracker_pipe[:] = [OwnDescriptor(fd, "the pipe to Python's resource tracker")]


# Empty as long as no server has been started.
_tracker_pipe: list[OwnDescriptor] = []


# States of a fork server:
#
#   starting -> ready    its PreloadReport has arrived
#   starting -> unsafe   it has died, is too late, or reports why it must not be forked
#   any      -> dead     `kill()`, or it has died (`alive`). The exit codes of its forks are lost
#                        with it; see `ForkedProcess.is_lost`


class ForkServer:
    """One fork server; it starts at once.

    Args:
        plan: what it imports.
        environ: variables in which its environment differs from this process's; None to unset one.
    """

    def __init__(
        self, plan: PreloadPlan, environ: Mapping[str, str | None] = MappingProxyType({})
    ) -> None:
        self.plan = plan
        self._environ = environ
        self.stdlib_server = forkserver.ForkServer()
        self.stdlib_server.set_forkserver_preload(["harness.ranks.launch.preload"])
        self._report: PreloadReport | None = None
        self._pid = os.getpid()
        self._killed = False
        self._received = b""
        self._made: list[ForkedProcess] = []
        self._pipe: int | None = self._start()
        pid: int = self.stdlib_server._forkserver_pid  # type: ignore[attr-defined]
        self._server_pid = pid
        _server_pids.add(pid)
        use = "a handle on the fork server"
        self._death = OwnDescriptor(os.pidfd_open(pid), use)
        # The server ends when this closes.
        self._lifeline = OwnDescriptor(self.stdlib_server._forkserver_alive_fd, use)  # type: ignore[attr-defined]
        _servers.add(self)

    def _start(self) -> int:
        """Start the server process; return the read end of its answer pipe."""
        _forget_lost_tracker()
        folder = str(folders.session_folder())
        path = os.path.join(folder, f"forkserver-{next(_count)}")
        with folders.making("the pipe of the fork server", folder):
            os.mkfifo(path, 0o600)
        pipe = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        changes = {
            **self._environ,
            PLAN_VARIABLE: self.plan.to_text(answer_to=path),
            # The server must import the harness before it has read the plan.
            "PYTHONPATH": os.pathsep.join(entry for entry in self.plan.sys_path if entry),
        }
        # Otherwise multiprocessing makes a temp folder for the server's socket, and leaves it if
        # this process is killed. The path of a socket must be short: 108 bytes on Linux.
        short = folders.short_path(folder)
        config = current_process()._config  # type: ignore[attr-defined]
        with (
            _start_lock,
            undecided(),
            changed(os.environ, changes),
            changed(config, {"tempdir": short}),
            quit_key.blocked_in_new_processes(interrupt=True),
        ):
            try:
                self.stdlib_server.ensure_running()
            except OSError as error:
                os.close(pipe)
                with folders.making("the socket of the fork server", folder):
                    raise error
        _remember_tracker()
        return pipe

    @property
    def alive(self) -> bool:
        """False once the server has died, and in a fork of the process that started it."""
        mine = self._pid == os.getpid() and not self._killed
        if not mine or not self._death.is_intact or not self._lifeline.is_intact:
            return False
        return not readable([self._death.fd], Deadline.after(0.0))

    def let_go(self) -> None:
        """Close the lifeline in a fork of this process."""
        if not self._killed:
            self._lifeline.close()

    def has_answered(self) -> bool:
        """Whether `report` would return at once."""
        return self._report is not None or self._receive(Deadline.after(0.0))

    def report(self, deadline: Deadline) -> PreloadReport:
        """Wait for the server's report until the deadline; return it."""
        if self._report is None and not self._receive(deadline):
            self._report = PreloadReport(
                unsafe="the fork server did not finish its imports in time"
            )
        assert self._report is not None
        return self._report

    def covers(self, wanted: PreloadPlan) -> bool:
        """Whether the server has imported everything in the plan; False before its report."""
        return self._report is not None and covers(self.plan, self._report, wanted)

    def _receive(self, deadline: Deadline) -> bool:
        """Read what has arrived of the report; return True once it is complete or cannot arrive."""
        while self._report is None and self._pipe is not None:
            ready = readable([self._pipe, self._death.fd], deadline)
            if not ready:
                return False
            data = os.read(self._pipe, 1 << 16) if self._pipe in ready else b""
            self._received += data
            if not data:
                self._report = self._parse()
                self._close_pipe()
        return True

    def _close_pipe(self) -> None:
        if self._pipe is not None:
            with contextlib.suppress(OSError):  # a test may have closed it
                os.close(self._pipe)
            self._pipe = None

    def _parse(self) -> PreloadReport:
        try:
            return PreloadReport.from_text(self._received)
        except ValueError:
            last = ", ".join(self.plan.modules[-3:]) or "__main__"
            return PreloadReport(unsafe=f"the fork server died while importing (… {last})")

    def process(self, **kwargs: Any) -> ForkedProcess:
        """Return a new process of this server, not started; arguments as for BaseProcess."""
        self._made = [made for made in self._made if made.is_alive()]
        self._made.append(ForkedProcess(self.stdlib_server, **kwargs))
        return self._made[-1]

    @property
    def idle(self) -> bool:
        """Whether no process of this server still runs, whose exit code it would deliver."""
        return not any(made.is_alive() for made in self._made)

    def kill(self) -> None:
        """End the server at once and reap it. The processes that it has forked live on.

        Does nothing a second time, and in a fork of the process that has started it.
        """
        if self._killed or self._pid != os.getpid():
            return
        self._killed = True
        if self._death.is_intact:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._death.fd, signal.SIGKILL)
        elif self._is_child():
            os.kill(self._server_pid, signal.SIGKILL)
        self._close_pipe()
        self._lifeline.forget()
        if not self._lifeline.is_intact:
            # The standard library closes this descriptor number, which may by now be a test's file.
            self.stdlib_server._forkserver_alive_fd = os.open(os.devnull, os.O_RDONLY)  # type: ignore[attr-defined]
        # These are raised if this process ignores SIGCHLD, or if a test has removed the folder.
        with contextlib.suppress(ChildProcessError, FileNotFoundError):
            self.stdlib_server._stop()  # type: ignore[attr-defined]
        self._death.close()

    def _is_child(self) -> bool:
        """Whether the process id is still the server's: nobody has reaped it."""
        try:
            os.waitid(os.P_PID, self._server_pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False
        return True
