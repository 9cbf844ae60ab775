"""A process that is forked from a fork server: `multiprocessing`'s, with limits and better news."""

from __future__ import annotations

import contextlib
import io
import os
import signal
from collections.abc import Iterator
from multiprocessing import context, forkserver, popen_forkserver, reduction, util
from multiprocessing.process import BaseProcess
from typing import Any

from harness.model import settings
from harness.model.clock import NEVER, Deadline
from harness.model.errors import StartError
from harness.ranks.channel import FrameWriter
from harness.ranks.descriptors import readable
from harness.ranks.launch.start_method import preparation_data

# How long the kernel may take to end a killed server.
_END_S = 5.0


class ForkedProcess(BaseProcess):
    """A process that is forked from a given fork server."""

    # The child of a BaseProcess gets this as its start method; None leaves it undecided.
    _start_method = None

    def __init__(self, server: forkserver.ForkServer, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._server = server

    def _Popen(self, process_obj: BaseProcess) -> _Popen:
        return _Popen(process_obj, self._server)

    @property
    def is_lost(self) -> bool:
        """Whether the exit code is unknown, because the fork server has died."""
        return bool(getattr(self._popen, "lost", False))  # type: ignore[attr-defined]

    def __reduce__(self) -> Any:
        state = {k: v for k, v in self.__dict__.items() if k != "_server"}
        return _bare_process, (state,)


def _bare_process(state: dict[str, Any]) -> BaseProcess:
    process = ForkedProcess.__new__(ForkedProcess)
    process.__dict__.update(state)
    return process


class _Popen(popen_forkserver.Popen):
    """The standard library's, with a server of our choice, and with limits for its answers."""

    def __init__(self, process_obj: BaseProcess, server: forkserver.ForkServer) -> None:
        self._server = server
        self.lost = False
        super().__init__(process_obj)

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """Return the exit code, None while it runs.

        The standard library returns 255 if it cannot get the code, which a process may also exit
        with. `lost` tells the two apart.
        """
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
            # Every later test would wait for this server, too. Without it, the next test starts
            # another. A worker does not know the process of the runner's server, and leaves it.
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
        """Return the process that the server has forked; the standard library has no limit here."""
        if not readable([self.sentinel], Deadline.after(limit_s)):
            raise TimeoutError
        return forkserver.read_signed(self.sentinel)


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Block the signals that end a test, for an instant.

    A server that receives half a request prints a traceback (CPython 3.11 to 3.14).
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
    """Return what a new process must know before it can unpickle itself.

    Without the main module: the server has run it already if ranks need it. Otherwise (under
    pytest, for example) running it again in every rank would only cost time.
    """
    data = preparation_data(process_obj)
    return {k: v for k, v in data.items() if not k.startswith("init_main_from_")}
