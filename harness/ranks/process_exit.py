"""Exit a process as the interpreter does, but without tearing down every module."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from typing import NoReturn

#: The longest time for which a rank that has passed waits for peers that create a process group. A
#: healthy peer needs a fraction of it.
MAY_LEAVE_WAIT_S = 2.0


def join_threads_and_run_exit_handlers() -> None:
    """Do what Python does before it finalizes the interpreter.

    Finalizing takes most of a second once torch's compiler is loaded (torch 2.13), and forked
    processes of multiprocessing skip it, too. This is the part that a program can observe.
    """
    # concurrent.futures registers here what wakes its idle threads (CPython 3.11 to 3.14). Without
    # that, joining them below would hang.
    for wake in reversed(getattr(threading, "_threading_atexits", [])):
        wake()
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()


def exit_code_of(request: SystemExit) -> int:
    """Return the exit code for this exception; print its argument if that is not a number."""
    if request.code is None:
        return 0
    if isinstance(request.code, int):
        return request.code
    print(request.code, file=sys.stderr)
    return 1


def leave(code: int) -> NoReturn:
    """End this process now, forked or spawned, without tearing down modules."""
    from multiprocessing import util  # imported late: slow, and not needed to print the help

    # multiprocessing's exit handler: it ends daemonic children and joins the others.
    util._exit_function()  # type: ignore[attr-defined]
    flush_output()
    os._exit(code)


def leave_if_fork_of(pid: int, code: int) -> None:
    """End this process silently if it is a fork of process `pid`.

    If a test forks and its child returns or raises, the child gets to the code that reports the
    test and starts the next one. It must do neither.

    Args:
        pid: the process that continues.
        code: the exit code of a fork.
    """
    if os.getpid() != pid:
        flush_output()
        os._exit(code)


def flush_output() -> None:
    """Flush stdout and stderr, even if a test has replaced or closed them."""
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        try:
            stream.flush()  # type: ignore[union-attr]
        except (AttributeError, OSError, ValueError):  # None, unreadable or closed
            continue
