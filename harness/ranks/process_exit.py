"""Leaving a process as an interpreter does, short of taking every module down."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from typing import NoReturn

#: How long a rank that has passed waits at most for peers that are bringing up a process group. A
#: peer that is alive takes a fraction of it.
PATIENCE_S = 2.0


def end_as_an_interpreter_does() -> None:
    """Wait for threads, then run exit handlers, as Python does before it finalises.

    Finalising takes most of a second once torch's compiler stack is loaded, and a forked process
    skips it anyway; what a program can see of it is here.
    """
    # Where libraries wake their idle threads to let them end (concurrent.futures does).
    for wake in reversed(getattr(threading, "_threading_atexits", [])):
        wake()
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()


def exit_code_of(request: SystemExit) -> int:
    """The code with which an interpreter exits on this exception; says what else it carries."""
    if request.code is None:
        return 0
    if isinstance(request.code, int):
        return request.code
    print(request.code, file=sys.stderr)
    return 1


def leave(code: int) -> NoReturn:
    """End this process now, whether it was forked or spawned, without taking modules down."""
    from multiprocessing import util  # not for a runner that only prints its help

    util._exit_function()  # type: ignore[attr-defined]
    flush_output()
    os._exit(code)


def leave_if_fork_of(pid: int, code: int) -> None:
    """End this process, if it is not `pid` but a fork of it, without a word of the harness's.

    A test that forks may return, or raise, in the child as well. The child then comes back to where
    the parent reports the test and runs the next one. It must do neither.

    Args:
        pid: the process that goes on from here.
        code: the exit code of any other.
    """
    if os.getpid() != pid:
        flush_output()
        os._exit(code)


def flush_output() -> None:
    """Write out what has been printed, whatever a test has made of stdout and stderr."""
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        try:
            stream.flush()  # type: ignore[union-attr]
        except (AttributeError, OSError, ValueError):  # None, unreadable or closed
            continue
