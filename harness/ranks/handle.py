"""One rank as the process that judges it sees it, wherever it has been started."""

from __future__ import annotations

import signal
from abc import ABC, abstractmethod
from typing import Any

from harness.model.clock import now
from harness.model.outcome import Ended, Lost
from harness.ranks.channel import Message
from harness.ranks.messages import ToRank

#: Makes a rank write its stacks to its file, whoever holds the GIL. Tests are free to use the
#: ordinary signals, so it is a real-time signal where there are any.
STACKS_SIGNAL = getattr(signal, "SIGRTMAX", signal.SIGUSR2 + 2) - 2


class RankHandle(ABC):
    """One rank in the hands of the process that judges it: heard, asked, signalled.

    Args:
        rank: the rank.
        process: what a test may ask of its process.

    Attributes:
        rank, process: these.
        is_new: whether it has run no test before the present one.
        asked_s: when it was asked to run the present one, on the clock.
        host, local_rank: where it is, if there are several hosts.
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
        """Its process id on its host; None as long as that is not known."""

    @property
    @abstractmethod
    def exit_code(self) -> int | None:
        """The exit code, negative for a signal; None while the process lives."""

    @property
    @abstractmethod
    def is_lost(self) -> bool:
        """Whether nobody knows its exit code, nor will."""

    @property
    @abstractmethod
    def outcome_if_lost(self) -> Lost | Ended:
        """What became of it then."""

    @property
    @abstractmethod
    def terminal_group(self) -> int:
        """The process group to which a terminal can be given; 0 if that is out of reach."""

    @property
    @abstractmethod
    def exit_fd(self) -> int:
        """Becomes readable when the process has ended."""

    @property
    @abstractmethod
    def open_fds(self) -> list[int]:
        """Those become readable when there is news of the rank: it has said something, or ended."""

    @abstractmethod
    def pass_on_output(self) -> None:
        """Show what the rank has written since."""

    @abstractmethod
    def end_output(self) -> None:
        """Show what the rank has written by the end of a test, unfinished lines too."""

    @abstractmethod
    def messages(self) -> list[Message]:
        """What it has said by now."""

    @property
    def fault(self) -> str:
        """What came from it that is no message, after which nothing more is heard; else empty."""
        return ""

    @abstractmethod
    def state(self) -> str:
        """The operating system's word for what the process does; empty if there is none."""

    @abstractmethod
    def order(self, frame: bytes) -> None:
        """Tell the rank what it awaits to be told.

        One that has died, or does not listen, misses it: its exit code, or a deadline, will tell.
        """

    @abstractmethod
    def ask(self, message: ToRank) -> bool:
        """Put a question to the rank, if it still listens; one that does not is not waited for."""

    @abstractmethod
    def signal_group(self, number: int) -> None:
        """Signal the rank and every process that it has started in its process group."""

    @abstractmethod
    def close(self) -> None:
        """Give back what this process holds of it. The rank must have ended."""
