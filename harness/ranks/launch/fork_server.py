"""Start and use Python's fork server, with our modules preloaded and a proof that forks are safe.

`multiprocessing.forkserver` does the forking, the sentinels and the exit codes. What is ours: which
modules it imports, the report that it makes before the first fork, and that there can be more than
one, so that a server with more modules can take over while the old one is still in use.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import signal
import threading
import weakref
from collections.abc import Iterator, Mapping
from multiprocessing import (
    context,
    forkserver,
    popen_forkserver,
    reduction,
    resource_tracker,
    util,
)
from multiprocessing.process import BaseProcess, current_process
from types import MappingProxyType
from typing import Any

from harness.model import settings
from harness.model.clock import NEVER, Deadline
from harness.model.errors import StartError
from harness.model.temporarily import changed
from harness.ranks import folders
from harness.ranks.channel import FrameWriter
from harness.ranks.descriptors import OwnDescriptor, readable
from harness.ranks.launch import quit_key
from harness.ranks.launch.preload_plan import PLAN_VARIABLE, PreloadPlan, PreloadReport, covers
from harness.ranks.launch.start_method import preparation_data, undecided

# How long the kernel may take to end a killed server.
_END_S = 5.0

_start_lock = threading.Lock()
_server_pids: set[int] = set()
_count = itertools.count(1)


def server_pids() -> frozenset[int]:
    """The fork servers of this process."""
    return frozenset(_server_pids)


_servers: weakref.WeakSet[ForkServer] = weakref.WeakSet()


def _let_go_in_a_fork() -> None:
    """Close, in a fork of this process, what tells the servers that it lives."""
    for server in _servers:
        server.let_go()


os.register_at_fork(after_in_child=_let_go_in_a_fork)


def _forget_lost_tracker() -> None:
    """Have Python's resource tracker restart, if a test has closed the pipe to it.

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


class ForkServer:
    """One fork server: started at once, used when it has said that it is safe.

    Args:
        plan: what it has to import.
        environ: variables that it shall start with, unlike this process; None for one that it shall
            not have.
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
        self._made: list[BaseProcess] = []
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
        # multiprocessing would make a folder of its own for the server's socket, and leave it there
        # if this process is killed. The socket's path has to be short.
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
        """In a fork of this process: close what tells the server that this process lives."""
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
        """Whether it has imported all that a plan asks for; call it once it has answered."""
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

    def process(self, **kwargs: Any) -> BaseProcess:
        """A process of this server, not yet started; arguments as for multiprocessing.Process."""
        self._made = [made for made in self._made if made.is_alive()]
        self._made.append(RankProcess(self.stdlib_server, **kwargs))
        return self._made[-1]

    @property
    def idle(self) -> bool:
        """Whether no process of this server is left whose exit code it has still to deliver."""
        return not any(made.is_alive() for made in self._made)

    def kill(self) -> None:
        """End the server at once and reap it. The ranks that it has forked live on.

        What is dead already stays so, and a copy in a fork of the parent is left alone.
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
            # The standard library closes the number, which may be that of a test's file by now.
            self.stdlib_server._forkserver_alive_fd = os.open(os.devnull, os.O_RDONLY)  # type: ignore[attr-defined]
        # This process ignores SIGCHLD, or a test has removed the session's folder.
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


class RankProcess(BaseProcess):
    """A process that a given fork server makes."""

    # BaseProcess has what is set here become the start method of the child.
    _start_method = None

    def __init__(self, server: forkserver.ForkServer, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._server = server

    def _Popen(self, process_obj: BaseProcess) -> _Popen:
        return _Popen(process_obj, self._server)

    @property
    def is_lost(self) -> bool:
        """Whether the server died first, so that nobody knows the exit code, or if it has ended."""
        return bool(getattr(self._popen, "lost", False))  # type: ignore[attr-defined]

    def __reduce__(self) -> Any:
        state = {k: v for k, v in self.__dict__.items() if k != "_server"}
        return _bare_process, (state,)


def _bare_process(state: dict[str, Any]) -> BaseProcess:
    process = RankProcess.__new__(RankProcess)
    process.__dict__.update(state)
    return process


class _Popen(popen_forkserver.Popen):
    """The standard library's, except that it asks the server it is given."""

    def __init__(self, process_obj: BaseProcess, server: forkserver.ForkServer) -> None:
        self._server = server
        self.lost = False
        super().__init__(process_obj)

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """The exit code, once there is one. The standard library gives 255 for "unknown", too."""
        if self.returncode is None:
            if not readable([self.sentinel], Deadline.after(0.0) if flag == os.WNOHANG else NEVER):
                return None
            try:
                self.returncode = forkserver.read_signed(self.sentinel)
            except (OSError, EOFError):
                self.returncode, self.lost = 255, True
        return self.returncode

    def _launch(self, process_obj: BaseProcess) -> None:
        request = io.BytesIO()
        context.set_spawning_popen(self)
        try:
            reduction.dump(_preparation(process_obj), request)
            reduction.dump(process_obj, request)
        finally:
            context.set_spawning_popen(None)
        with _uninterrupted():
            self.sentinel, write_end = self._server.connect_to_new_process(self._fds)  # type: ignore[attr-defined]
        # The rank holds the other end of this pipe: when it closes, the parent is gone.
        alive = os.dup(write_end)
        self.finalizer = util.Finalize(self, _close, (alive, self.sentinel))
        limit_s = settings.START_TIMEOUT_S.value()
        try:
            os.set_blocking(write_end, False)
            FrameWriter(write_end, limit_s).send_frame(request.getvalue())
            self.pid = self._read_pid(limit_s)
        except TimeoutError:
            # It would keep every later test waiting too; without it, the next test starts another
            # one. A worker leaves the runner's server, of which it does not know the process.
            server: int | None = self._server._forkserver_pid  # type: ignore[attr-defined]
            if server is not None:
                _kill(server)
            raise StartError(
                f"the fork server did not start {process_obj.name} within {limit_s:g} s "
                "(HARNESS_START_TIMEOUT): it is stopped or stuck"
            ) from None
        finally:
            os.close(write_end)

    def _read_pid(self, limit_s: float) -> int:
        """The process that the server has forked. The standard library waits for it forever."""
        if not readable([self.sentinel], Deadline.after(limit_s)):
            raise TimeoutError
        return forkserver.read_signed(self.sentinel)


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold back what ends a test, for an instant.

    A server that has been asked for half a process prints a traceback (CPython 3.11 to 3.14).
    """
    ends = {signal.SIGINT, signal.SIGTERM, signal.SIGALRM}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _kill(pid: int) -> None:
    """End a process that may be stopped, and wait until it has ended."""
    with contextlib.suppress(ProcessLookupError):
        pidfd = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            readable([pidfd], Deadline.after(_END_S))
        finally:
            os.close(pidfd)


def _close(*fds: int) -> None:
    for fd in fds:
        with contextlib.suppress(OSError):  # a test may have closed it
            os.close(fd)


def _preparation(process_obj: BaseProcess) -> dict[str, Any]:
    """What a new process must know before it can unpickle itself.

    The main module is left out: the server has run it already if ranks need it, and otherwise
    (under pytest, say) running it again in every rank would only cost time.
    """
    data = preparation_data(process_obj)
    return {k: v for k, v in data.items() if not k.startswith("init_main_from_")}
