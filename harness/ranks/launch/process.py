"""Set up a new process: environment, folder, path, arguments, output, scheduling.

It also ties itself to its parent here: when the parent is gone, whatever ended it, the kernel ends
the process too.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sys
import tempfile
from multiprocessing import process
from multiprocessing.connection import wait

from harness.model.own_thread import OwnThread
from harness.model.surroundings import Surroundings


def become(surroundings: Surroundings) -> None:
    """Apply these to this process; a fork starts with those of its server."""
    for name in os.environ.keys() - surroundings.environ.keys():
        del os.environ[name]
    for name, value in surroundings.environ.items():
        if os.environ.get(name) != value:
            os.environ[name] = value
    tempfile.tempdir = None  # the server may have looked for one in another environment
    os.chdir(surroundings.cwd)
    sys.path[:] = surroundings.sys_path
    sys.argv[:] = surroundings.argv


def write_to(stream: str, target: int) -> None:
    """Send what this process writes to a stream, native code included, to a descriptor.

    Args:
        stream: "stdout" or "stderr".
        target: the descriptor, which is closed here.
    """
    fd = _NUMBERS[stream]
    os.dup2(target, fd)
    os.close(target)
    # A new object: the old one remembers what kind of file it was made for. By lines, which must
    # be out when the process dies without warning.
    text = open(fd, "w", 1, "utf-8", "backslashreplace", closefd=False)  # noqa: SIM115
    setattr(sys, stream, text)
    setattr(sys, f"__{stream}__", text)


_NUMBERS = {"stdout": 1, "stderr": 2}


def let_threads_finish() -> None:
    """Have threads of this process, once woken, wait until a processor is free.

    Otherwise a woken thread takes the processor from the thread that wakes it. gloo's threads do
    that to those of their peers in every exchange: with as many ranks as cores, an `all_reduce` of
    four numbers took three times as long on average. Each thread still has its share of the
    processors.

    A policy that was chosen for the ranks is kept. Threads inherit the policy of the thread that
    starts them, so call this before any thread is started.
    """
    if not hasattr(os, "SCHED_BATCH"):
        return
    with contextlib.suppress(OSError):  # where a sandbox forbids it, ranks are slower
        if os.sched_getscheduler(0) == os.SCHED_OTHER:
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


# Some builds of Python lack the name; the number is that of <asm-generic/fcntl.h>.
_F_SETSIG = getattr(fcntl, "F_SETSIG", 10)


def attach() -> int | None:
    """End this process's whole group when the parent's end of the lifeline closes.

    The lifeline is the pipe that multiprocessing keeps from every child to its parent. On Linux
    the kernel itself sends KILL when it closes, so that a rank which holds the GIL, or whose
    threads are all stuck, ends too.

    Returns:
        the descriptor of the lifeline; None if there is no parent.
    """
    parent = process.parent_process()
    if parent is None:
        return None
    fd = parent.sentinel
    if sys.platform == "linux":
        fcntl.fcntl(fd, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(fd, _F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_ASYNC)
        if not wait([fd], 0):
            return fd
    # Elsewhere, or if the parent went before the kernel was asked to watch it.
    OwnThread(_end_with_parent, (fd,), "harness-lifeline").start()
    return fd


def _end_with_parent(fd: int) -> None:
    wait([fd])
    os.killpg(os.getpgrp(), signal.SIGKILL)
