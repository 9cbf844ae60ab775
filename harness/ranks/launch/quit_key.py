r"""Block SIGQUIT, which Ctrl-\ on a terminal sends, in all processes but the runner.

The terminal sends it to each process in the runner's process group. The runner answers it by a
report. It would kill the fork server, Python's resource tracker, and any rank or worker that has
not yet left the group.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

_QUIT = {signal.SIGQUIT}
# Ctrl-C. Python's fork server ignores it after its imports, and ends with a traceback before
# (CPython 3.11 to 3.14).
_INTERRUPT = {signal.SIGINT}


@contextlib.contextmanager
def blocked_in_new_processes(*, interrupt: bool = False) -> Iterator[None]:
    """Block SIGQUIT in the processes that this thread starts inside the block.

    By a mask instead of a handler: only the main thread may set handlers. A mask also survives
    `exec`, and so protects a new process from its first instruction on.

    Args:
        interrupt: block SIGINT, too; this process then handles it after the block.
    """
    blocked = _QUIT | _INTERRUPT if interrupt else _QUIT
    before = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def unblock() -> None:
    """Unblock the signals in a rank or worker that has a process group of its own."""
    for each in (_QUIT, _INTERRUPT):
        signal.sigtimedwait(each, 0)  # discard one that is pending
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _QUIT | _INTERRUPT)
