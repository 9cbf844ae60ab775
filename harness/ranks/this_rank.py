"""The rank that the calling code runs in: a thread, or this process."""

from __future__ import annotations

import os
import threading
from typing import Protocol

from harness.model.example import Example
from harness.model.expectation import Expectation


class ThisRank(Protocol):
    """A rank as seen by the code that runs in it.

    Attributes:
        example: the example that the body is to run; None if the test has none.
    """

    example: Example | None

    def meet(self, label: str, value: str = "") -> tuple[str, ...]:
        """Wait until all ranks call this; return the value of each, by rank."""

    def report_expectation(self, expectation: Expectation) -> None:
        """Report a text that the body has produced where it expects one."""


_of_process: tuple[int, ThisRank] | None = None
_of_thread = threading.local()


def set_for_process(rank: ThisRank) -> None:
    """From now on, this process is a rank; its forks are none."""
    global _of_process
    _of_process = (os.getpid(), rank)


def set_for_thread(rank: ThisRank) -> None:
    """From now on, the calling thread is a rank."""
    _of_thread.rank = rank


def find() -> ThisRank | None:
    """Return the rank that the calling code runs in; None if it runs in no rank."""
    of_thread: ThisRank | None = getattr(_of_thread, "rank", None)
    if of_thread is not None:
        return of_thread
    if _of_process is not None and _of_process[0] == os.getpid():
        return _of_process[1]
    return None


def current() -> ThisRank:
    """Return the rank that the calling code runs in. Raises RuntimeError if it runs in none."""
    rank = find()
    if rank is None:
        raise RuntimeError("this can only be called in a rank of a test, while its body runs")
    return rank
