"""The harness's own threads, recognizable by their class, and in a stack dump by their file."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


class OwnThread(threading.Thread):
    """A thread of the harness itself, which reports leave out and which never delays an exit.

    Args:
        target: what it runs.
        args: the arguments of that.
        name: shown by debuggers.
    """

    def __init__(self, target: Callable[..., Any], args: tuple[Any, ...], name: str) -> None:
        super().__init__(target=target, args=args, name=name, daemon=True)

    def run(self) -> None:
        """Put a frame of this file into the stack of the thread."""
        super().run()


#: The file of a frame that is in the stack of each of these threads, and in no other stack.
FILE = OwnThread.run.__code__.co_filename


def is_own(thread: threading.Thread) -> bool:
    """Return whether a thread is one of the harness's own."""
    return isinstance(thread, OwnThread)
