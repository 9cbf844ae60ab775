"""The parent's interface to one rank: a process of its own, or one on another host.

`process_rank.OwnRank` and `torchrun/remote_rank.RemoteRank` implement it.
"""

from __future__ import annotations

import signal
from abc import ABC, abstractmethod
from typing import Any

from harness.model.clock import now
from harness.model.outcome import Ended, Lost
from harness.ranks.messages import FromRank, ToRank

#: Makes a rank write its stacks to its pipe, whichever thread holds the GIL. It is a real-time
#: signal where the system has them, since tests may use the ordinary ones.
STACKS_SIGNAL = getattr(signal, "SIGRTMAX", signal.SIGUSR2 + 2) - 2


class RankHandle(ABC):
    """The parent's handle on one rank: receives, sends, signals.

    Args:
        rank: the rank.
        process: the process object that tests see.

    Attributes:
        rank, process: these.
        is_new: whether the current test is its first.
        asked_s: when it was asked to run the current test, on `now()`'s clock.
        host, local_rank: where it runs, if there are several hosts.
    """

    def __init__(self, rank: int, process: Any) -> None:
        self.rank = rank
        self.process = process
        self.is_new = True
        self.asked_s = now()
        self.host = ""
        self.local_rank: int | None = None

    def __repr__(self) -> str:
        return f"<rank {self.rank} pid {self.pid} exit code {self.exit_code}>"

    @property
    @abstractmethod
    def pid(self) -> int | None:
        """The process id on its host; None until that is known."""

    @property
    @abstractmethod
    def exit_code(self) -> int | None:
        """The exit code, negative for a signal; None while the process runs."""

    @property
    @abstractmethod
    def is_lost(self) -> bool:
        """Whether the process has gone and its exit code will never be known."""

    @property
    @abstractmethod
    def outcome_if_lost(self) -> Lost | Ended:
        """The outcome of the rank if `is_lost`."""

    @property
    @abstractmethod
    def terminal_group(self) -> int:
        """The process group that can get the terminal; 0 if it cannot."""

    @property
    @abstractmethod
    def exit_fd(self) -> int:
        """A descriptor that is readable once the process has ended."""

    @property
    @abstractmethod
    def open_fds(self) -> list[int]:
        """The descriptors that are readable when the rank has sent something or has ended."""

    @abstractmethod
    def pass_on_output(self) -> None:
        """Show what the rank has written since the last call."""

    @abstractmethod
    def end_output(self) -> None:
        """Show the rest of the rank's output at the end of a test, unfinished lines included."""

    @abstractmethod
    def messages(self) -> list[FromRank]:
        """Return the messages that have arrived since the last call."""

    @property
    def fault(self) -> str:
        """A description of received data that is not a message; empty if there was none.

        After a fault, `messages()` returns nothing more.
        """
        return ""

    @abstractmethod
    def state(self) -> str:
        """Return the process state, as the operating system names it; empty if there is none."""

    @abstractmethod
    def order(self, frame: bytes) -> None:
        """Send a message that the rank waits for; wait until it is sent.

        There is no error if the rank has died or does not read: its exit code, or a deadline, tells
        the supervisor.
        """

    @abstractmethod
    def ask(self, message: ToRank) -> bool:
        """Send a request without waiting; return False if the channel is closed or full."""

    @abstractmethod
    def signal_group(self, number: int) -> None:
        """Send a signal to the rank and its process group."""

    @abstractmethod
    def close(self) -> None:
        """Close this process's descriptors for the rank, which must have ended."""
