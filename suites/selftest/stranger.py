"""Another local user, for self-tests of what such a one can do to a world."""

from __future__ import annotations

import encodings.idna  # noqa: F401  (which connecting imports when it is first done)
import multiprocessing
import os
import traceback
import unittest
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

#: The user that owns nothing, "nobody", on every Linux.
STRANGER = 65534

needs_a_stranger = unittest.skipUnless(
    os.geteuid() == 0, "only root can run something as another user"
)


class Stranger:
    """A process of another user that calls a function and then waits to be ended.

    It is a fork, so that it has all that is imported already: it could read none of our modules.

    Args:
        function: what it does; it gets the arguments, and its value is `result()`.
        arguments: these.
    """

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        context = multiprocessing.get_context("fork")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_act, args=(theirs, function, arguments))
        self._process.start()
        theirs.close()

    def result(self, limit_s: float = 120.0) -> Any:
        """What the function returned."""
        if not self._ours.poll(limit_s):
            raise AssertionError("the stranger has not finished")
        value, error = self._ours.recv()
        if error:
            raise AssertionError(f"the stranger failed:\n{error}")
        return value

    def end(self) -> None:
        """End it, which closes its connections."""
        self._process.kill()
        self._process.join()
        self._process.close()
        self._ours.close()


def _act(theirs: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    os.setgroups([])
    os.setresgid(STRANGER, STRANGER, STRANGER)
    os.setresuid(STRANGER, STRANGER, STRANGER)
    try:
        theirs.send((function(*arguments), ""))
    except BaseException:
        theirs.send((None, traceback.format_exc()))
    theirs.poll(None)  # until the test ends it, or ends itself
