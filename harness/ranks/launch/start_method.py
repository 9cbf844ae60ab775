"""Keeps `multiprocessing`'s default start method the user's: undecided until the user decides.

`multiprocessing` decides it for good as soon as a process is started or prepared, and gives it to
each child together with the preparation data. Ranks and workers stand for processes that the user
starts, in which nothing has been decided but by the modules that they import.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from multiprocessing import context, popen_spawn_posix, process, spawn
from multiprocessing.context import SpawnProcess
from multiprocessing.process import BaseProcess
from typing import Any

# What multiprocessing says for an exit code that it could not get.
_UNKNOWN = 255


@contextlib.contextmanager
def undecided() -> Iterator[None]:
    """Leave this process's start method as it is, whatever `multiprocessing` decides meanwhile."""
    before = _default_context()._actual_context
    try:
        yield
    finally:
        _default_context()._actual_context = before


def preparation_data(process_obj: BaseProcess) -> dict[str, Any]:
    """What a new process must know before it can unpickle itself, without a start method."""
    with undecided():
        data = spawn.get_preparation_data(process_obj.name)
    data.pop("start_method", None)
    return data


class _Popen(popen_spawn_posix.Popen):
    """The standard library's, except that it notices the end of a child that nobody can wait for.

    The kernel reaps the children of a process that ignores SIGCHLD, as a test may have it do.
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

    # BaseProcess has what is set here become the start method of the child.
    _start_method: Any = None

    @staticmethod
    def _Popen(process_obj: Any) -> _Popen:
        return _Popen(process_obj)

    @property
    def is_lost(self) -> bool:
        """Whether it has ended, and nobody knows its exit code."""
        return bool(getattr(self._popen, "lost", False))  # type: ignore[attr-defined]

    def start(self) -> None:
        """Start the process, and leave the start method of this one as it is."""
        with undecided():
            super().start()

    def run(self) -> None:
        """In the child: forget the start method that came with the preparation data."""
        _default_context()._actual_context = None
        super().run()


def be_main_process() -> None:
    """Have this process be the main one to `multiprocessing`, as the user's own process is.

    It has no parent, is called MainProcess, and its children are numbered from 1.
    """
    current: Any = process.current_process()
    current._name, current._identity = "MainProcess", ()
    current._parent_pid = current._popen = None
    module: Any = process
    module._parent_process = None


def _default_context() -> Any:
    return context._default_context
