"""The parent's terminal, lent to one rank at a time for its debugger."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator

from harness.ranks.descriptors import TERMINAL

_NONE = "there is no terminal to talk to: run this test alone, from a terminal, in the foreground"

_OUT_OF_REACH = "this rank has another process for a parent, which has no terminal"


class Terminal:
    """Whose the terminal is: the parent's, or that of a rank which is being debugged."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, int]] = []
        self.holder: int | None = None

    def ask(self, rank: int, pid: int) -> None:
        """A rank wants it."""
        self._waiting.append((rank, pid))

    def leave(self, rank: int) -> None:
        """A rank does not want it any more, or has ended."""
        self._waiting = [(other, pid) for other, pid in self._waiting if other != rank]
        if self.holder == rank:
            self.holder = None
            to_foreground(home_group())

    def lend(self) -> tuple[int, str] | None:
        """Give it to the next rank that wants it, if it is free.

        Returns:
            the rank, and why it cannot have it (empty if it can); None if nothing is to be told.
        """
        if self.holder is not None or not self._waiting:
            return None
        rank, pid = self._waiting.pop(0)
        if not pid:
            return rank, _OUT_OF_REACH
        if not _is_ours():
            return rank, _NONE
        error = to_foreground(pid)
        if not error:
            self.holder = rank
        return rank, error

    @property
    def in_use(self) -> bool:
        """Whether a rank has it, or waits for it."""
        return self.holder is not None or bool(self._waiting)


@contextlib.contextmanager
def _opened() -> Iterator[int]:
    terminal = os.open(TERMINAL, os.O_RDWR | os.O_NOCTTY)
    try:
        yield terminal
    finally:
        os.close(terminal)


_home_group: tuple[int, int] | None = None


def home_group() -> int:
    """The process group whose the terminal is when no rank has it."""
    mine = os.getpid()
    return _home_group[1] if _home_group and _home_group[0] == mine else os.getpgrp()


def use_terminal_of(group: int) -> None:
    """Lend, in this process, the terminal of another process group, that of the runner."""
    global _home_group
    _home_group = (os.getpid(), group)


def _is_ours() -> bool:
    """Whether there is a terminal and it is free to be lent."""
    try:
        with _opened() as terminal:
            return os.tcgetpgrp(terminal) == home_group()
    except OSError:
        return False


def to_foreground(group: int) -> str:
    """Put a process group into the terminal's foreground; returns why that was not possible."""
    # Who does this from the background is stopped unless the signal is kept from it.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
    try:
        with _opened() as terminal:
            os.tcsetpgrp(terminal, group)
    except OSError as error:
        return f"the terminal cannot be given to the rank: {error.strerror}"
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return ""
