r"""Keeps SIGQUIT, which Ctrl-\ on a terminal sends, from processes that are not asked anything.

The terminal sends it to every process of the runner's group. The runner answers it. The fork server
and Python's resource tracker would die of it, and so would a rank or a worker that is starting and
has no process group of its own yet.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

_QUIT = {signal.SIGQUIT}
# Ctrl-C. Python's fork server ignores it once it has imported what it preloads, and dies of it with
# a traceback before (CPython 3.11 to 3.14).
_INTERRUPT = {signal.SIGINT}


@contextlib.contextmanager
def blocked_in_new_processes(*, interrupt: bool = False) -> Iterator[None]:
    """Block SIGQUIT in the processes that this thread starts meanwhile.

    A mask, not a handler: only the main thread may set handlers, and a mask holds from the first
    instruction of the new process on. It outlives `exec`.

    Args:
        interrupt: block SIGINT as well, which then waits in this process, too.
    """
    blocked = _QUIT | _INTERRUPT if interrupt else _QUIT
    before = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def unblock() -> None:
    """In a rank or worker, once it has a process group of its own: let all through again."""
    for each in (_QUIT, _INTERRUPT):
        signal.sigtimedwait(each, 0)  # take one that has come meanwhile
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _QUIT | _INTERRUPT)
