"""Spawn processes, and leave the default start method of `multiprocessing` to the user.

`multiprocessing` fixes the default when the first process is started or prepared, and passes it on
to each child. A test that then calls `set_start_method()` would fail. Ranks and workers stand for
processes that the user starts, so in them only the user's modules may fix it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from multiprocessing import context, popen_spawn_posix, process, spawn
from multiprocessing.context import SpawnProcess
from multiprocessing.process import BaseProcess
from typing import Any

# multiprocessing's exit code for a process whose exit code it could not get.
_UNKNOWN = 255


@contextlib.contextmanager
def undecided() -> Iterator[None]:
    """Restore the start method of this process after the block."""
    before = _default_context()._actual_context
    try:
        yield
    finally:
        _default_context()._actual_context = before


def preparation_data(process_obj: BaseProcess) -> dict[str, Any]:
    """Return what a new process must know to unpickle itself, without a start method."""
    with undecided():
        data = spawn.get_preparation_data(process_obj.name)
    data.pop("start_method", None)
    return data


class _Popen(popen_spawn_posix.Popen):
    """The standard library's, except that it notices when the kernel has reaped the child.

    The kernel does so if this process ignores SIGCHLD, which a test may ask for.
    Python (3.11 to 3.14) then takes them for alive.
    """

    lost = False

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        code = super().poll(flag)
        if code is None and self._is_reaped():
            self.returncode, self.lost = _UNKNOWN, True
        return self.returncode

    def _is_reaped(self) -> bool:
        try:
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return True
        return False


class SpawnedProcess(SpawnProcess):
    """A fresh interpreter in which no start method has been decided."""

    # The child of a BaseProcess gets this as its start method; None leaves it undecided.
    _start_method: Any = None

    @staticmethod
    def _Popen(process_obj: Any) -> _Popen:
        return _Popen(process_obj)

    @property
    def is_lost(self) -> bool:
        """Whether the process has ended with an unknown exit code."""
        return bool(getattr(self._popen, "lost", False))  # type: ignore[attr-defined]

    def start(self) -> None:
        """Start the process; keep the start method of this one."""
        with undecided():
            super().start()

    def run(self) -> None:
        """In the child: forget the start method that came with the preparation data."""
        _default_context()._actual_context = None
        super().run()


def be_main_process() -> None:
    """Make this process the main process of `multiprocessing`, as the user's own process is.

    The main process has no parent and is called MainProcess; its children are numbered from 1.
    """
    current: Any = process.current_process()
    current._name, current._identity = "MainProcess", ()
    current._parent_pid = current._popen = None
    module: Any = process
    module._parent_process = None


def _default_context() -> Any:
    return context._default_context
