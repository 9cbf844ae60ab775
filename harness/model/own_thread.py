"""Threads of the harness in the processes of tests.

Reports leave them out. Inside a process they are recognized by their class. A dump of faulthandler
has files and lines only, so the file of their outermost frame identifies them there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


class OwnThread(threading.Thread):
    """A daemon thread of the harness itself; it never delays the exit of its process.

    Args:
        target: the function that it runs.
        args: the function's arguments.
        name: the thread's name, which debuggers show.
    """

    def __init__(self, target: Callable[..., Any], args: tuple[Any, ...], name: str) -> None:
        # A daemon thread: Python does not wait for it at exit. The harness's threads wait for
        # requests, so they would never end by themselves.
        super().__init__(target=target, args=args, name=name, daemon=True)

    def run(self) -> None:
        """Run the target, with a frame of this file below it in the stack."""
        super().run()


#: The file of a frame that the stacks of these threads have, and no other stack.
FILE = OwnThread.run.__code__.co_filename


def is_own(thread: threading.Thread) -> bool:
    """Return whether a thread is one of the harness's own."""
    return isinstance(thread, OwnThread)
