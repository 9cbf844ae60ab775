"""Register what a thread is about to wait for, so that snapshots can show it.

The frames of a thread rank do not say whether what it waits for has arrived. The harness's own
waits (collectives of thread ranks, meetings such as `assertRanksAgree`) register here instead.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from harness.model.evidence import Waiting

# By thread identifier. It may contain ranks of several worlds: a thread that could not be ended
# keeps its entry, and its identifier is not reused as long as it lives.
_waiting: dict[int, tuple[Waiting, Callable[[], bool]]] = {}


@contextlib.contextmanager
def registered(waiting: Waiting, is_over: Callable[[], bool]) -> Iterator[None]:
    """Register that the calling thread does nothing but wait inside this block.

    Args:
        waiting: what it waits in.
        is_over: whether the thread can go on as soon as it gets a processor. Other threads call it
            without locks.
    """
    thread = threading.get_ident()
    _waiting[thread] = waiting, is_over
    try:
        yield
    finally:
        _waiting.pop(thread, None)


def wait_of(thread: threading.Thread) -> Waiting | None:
    """Return what a thread waits in; None if it may be doing anything else."""
    waiting, is_over = _waiting.get(thread.ident or 0, (None, bool))
    return waiting if waiting is not None and not is_over() else None
