"""Register what a thread waits for before it blocks, so that snapshots can show it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from harness.model.evidence import Waiting

# By identifier of the thread. Ranks of several worlds may be in it: a thread that could not be
# ended keeps its identifier, so that no other thread has it.
_waiting: dict[int, tuple[Waiting, Callable[[], bool]]] = {}


@contextlib.contextmanager
def registered(waiting: Waiting, has_come: Callable[[], bool]) -> Iterator[None]:
    """Inside, the calling thread does nothing but wait for this.

    Args:
        waiting: the wait.
        has_come: whether what the thread waits for is there, so that it goes on as soon as it gets
            a processor; called by any thread, without locks.
    """
    thread = threading.get_ident()
    _waiting[thread] = waiting, has_come
    try:
        yield
    finally:
        _waiting.pop(thread, None)


def wait_of(thread: threading.Thread) -> Waiting | None:
    """Return what the thread waits for; None if it may be doing anything else."""
    waiting, has_come = _waiting.get(thread.ident or 0, (None, bool))
    return waiting if waiting is not None and not has_come() else None
