"""Ties a rank to its parent: when the parent is gone, however it went, the kernel ends the rank."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import threading
from multiprocessing import process
from multiprocessing.connection import wait

from harness.diagnosis.snapshot import LIFELINE

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
    threading.Thread(target=_end_with_parent, args=(fd,), name=LIFELINE, daemon=True).start()
    return fd


def _end_with_parent(fd: int) -> None:
    wait([fd])
    os.killpg(os.getpgrp(), signal.SIGKILL)
