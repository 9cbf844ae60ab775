"""Lend the parent's terminal to one rank at a time, for its debugger."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator

from harness.ranks.descriptors import TERMINAL

_NO_TERMINAL = "no terminal is available: run this test alone, in the foreground of a terminal"

_OTHER_HOST = "this rank runs under another process, which has no terminal"

# States of the terminal:
#
#   ours    holder is None   the parent's process group is in the foreground
#   lent    holder is set    the rank's process group is in the foreground; others wait in a queue
#
# ask() queues a rank; lend() gives it the terminal if that is free; leave() takes it back, also
# when the rank ends. The kernel sends Ctrl-C to the foreground group only, so it then reaches the
# debugger, not the test run.


class Terminal:
    """Keeps track of who has the terminal: the parent, or a rank in a debugger."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, int]] = []
        self.holder: int | None = None

    def ask(self, rank: int, pid: int) -> None:
        """Queue a rank that wants the terminal."""
        self._waiting.append((rank, pid))

    def leave(self, rank: int) -> None:
        """Take the terminal back from a rank that is done with it, or has ended."""
        self._waiting = [(other, pid) for other, pid in self._waiting if other != rank]
        if self.holder == rank:
            self.holder = None
            to_foreground(home_group())

    def lend(self) -> tuple[int, str] | None:
        """Lend the terminal to the next rank in the queue, if it is free.

        Returns:
            the rank, and why it cannot have it (empty if it can); None if no answer is due.
        """
        if self.holder is not None or not self._waiting:
            return None
        rank, pid = self._waiting.pop(0)
        if not pid:
            return rank, _OTHER_HOST
        if not _is_ours():
            return rank, _NO_TERMINAL
        error = to_foreground(pid)
        if not error:
            self.holder = rank
        return rank, error

    @property
    def in_use(self) -> bool:
        """Whether a rank has the terminal, or waits for it."""
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
    """Return the process group that owns the terminal when no rank has it."""
    mine = os.getpid()
    return _home_group[1] if _home_group and _home_group[0] == mine else os.getpgrp()


def use_terminal_of(group: int) -> None:
    """Make this process lend the terminal of another process group, the runner's."""
    global _home_group
    _home_group = (os.getpid(), group)


def _is_ours() -> bool:
    """Whether there is a terminal, and this process may lend it."""
    try:
        with _opened() as terminal:
            return os.tcgetpgrp(terminal) == home_group()
    except OSError:
        return False


def to_foreground(group: int) -> str:
    """Move a process group to the terminal's foreground; return the error, empty if none."""
    # The kernel sends SIGTTOU to a background process that calls tcsetpgrp(), which would stop this
    # process; it skips that if the signal is blocked.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
    try:
        with _opened() as terminal:
            os.tcsetpgrp(terminal, group)
    except OSError as error:
        return f"cannot give the terminal to the rank: {error.strerror}"
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return ""
