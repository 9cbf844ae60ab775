"""Set up a new process: environment, folder, path, arguments, output, scheduling.

`attach` ties the process to its parent: however the parent ends, the kernel then ends the process.
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
    """Apply these surroundings to this process; a fork starts with those of its server."""
    for name in os.environ.keys() - surroundings.environ.keys():
        del os.environ[name]
    for name, value in surroundings.environ.items():
        if os.environ.get(name) != value:
            os.environ[name] = value
    tempfile.tempdir = None  # the cached folder of the server, whose TMPDIR may be another
    os.chdir(surroundings.cwd)
    sys.path[:] = surroundings.sys_path
    sys.argv[:] = surroundings.argv


def write_to(stream: str, target: int) -> None:
    """Redirect a stream of this process to a descriptor, for native code, too.

    Args:
        stream: "stdout" or "stderr".
        target: the descriptor, which is closed here.
    """
    fd = _NUMBERS[stream]
    os.dup2(target, fd)
    os.close(target)
    # A new object, since the old one has the buffer of another kind of file. Buffered by line, so
    # that no line is lost if the process is killed.
    text = open(fd, "w", 1, "utf-8", "backslashreplace", closefd=False)  # noqa: SIM115
    setattr(sys, stream, text)
    setattr(sys, f"__{stream}__", text)


_NUMBERS = {"stdout": 1, "stderr": 2}


def let_threads_finish() -> None:
    """Use Linux's scheduling policy for batch work, by which threads do not preempt each other.

    Otherwise a thread that is woken preempts the thread that wakes it. gloo's threads do that to
    their peers' in every exchange: with as many ranks as cores, an `all_reduce` of four numbers
    takes three times as long (torch 2.13). Each thread still gets its share of the CPUs.

    Does nothing if the user has chosen a policy. Threads inherit the policy of the thread that
    starts them, so call this before any thread is started.
    """
    if not hasattr(os, "SCHED_BATCH"):
        return
    with contextlib.suppress(OSError):  # a sandbox may forbid it; then ranks are slower
        if os.sched_getscheduler(0) == os.SCHED_OTHER:
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


# Some builds of Python do not have the name; the number is from <asm-generic/fcntl.h>.
_F_SETSIG = getattr(fcntl, "F_SETSIG", 10)


def attach() -> int | None:
    """End the process group of this process when the parent's end of the lifeline closes.

    The lifeline is the pipe between parent and child that multiprocessing keeps open. On Linux, the
    kernel itself sends SIGKILL when it closes. That also ends a rank that holds the GIL, or whose
    threads are all stuck.

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
    # On other systems, or if the parent ended before F_SETSIG.
    OwnThread(_end_with_parent, (fd,), "harness-lifeline").start()
    return fd


def _end_with_parent(fd: int) -> None:
    wait([fd])
    os.killpg(os.getpgrp(), signal.SIGKILL)
