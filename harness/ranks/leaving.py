"""Leaving a process as an interpreter does, short of taking every module down."""

from __future__ import annotations

import atexit
import threading


def end_as_an_interpreter_does() -> None:
    """Wait for threads, then run exit handlers, as Python does before it finalises.

    Finalising takes most of a second once torch's compiler stack is loaded, and a forked process
    skips it anyway; what a program can see of it is here.
    """
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()
