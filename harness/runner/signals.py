"""What the user asks of a run while it goes on: to stop, to stop at once, to say where it is."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

# SIGQUIT is Ctrl-\ on a terminal.
_QUESTIONS = (signal.SIGUSR1, signal.SIGQUIT)
_STOPS = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """Takes signals for the length of a `with` block.

    Attributes:
        fd: becomes readable when a signal has come.
        interrupts: how often the user has asked to stop.
        grace_s: how long the first time is only noted, before KeyboardInterrupt is raised.
    """

    def __init__(self) -> None:
        self.interrupts = 0
        self.grace_s = 0.0
        self._questions = 0
        self._previous: dict[int, Any] = {}
        self._raises = False
        self.on_question: Callable[[], None] | None = None
        self.fd, self._write_fd = os.pipe()
        for fd in (self.fd, self._write_fd):
            os.set_blocking(fd, False)

    def __enter__(self) -> Signals:
        for number in (*_QUESTIONS, *_STOPS):
            self._previous[number] = signal.signal(number, self._heard)
        signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        signal.set_wakeup_fd(-1)
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        os.close(self.fd)
        os.close(self._write_fd)

    def raise_on_interrupt(self, does: bool) -> None:
        """Whether asking to stop shall raise KeyboardInterrupt, rather than just be noted."""
        self._raises = does
        if not does:
            signal.setitimer(signal.ITIMER_REAL, 0.0)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if number in _QUESTIONS:
            self._questions += 1
            if self.on_question is not None:
                self.on_question()
            return
        self.interrupts += 1
        if self._raises and self.grace_s and self.interrupts == 1:
            self._previous.setdefault(signal.SIGALRM, signal.signal(signal.SIGALRM, self._heard))
            signal.setitimer(signal.ITIMER_REAL, self.grace_s)
        elif self._raises:
            raise KeyboardInterrupt

    def heed(self) -> None:
        """Make `fd` wait for the next signal."""
        try:
            os.read(self.fd, 4096)
        except BlockingIOError:
            return

    def take_question(self) -> bool:
        """Whether the user has asked, since the last call, where the tests are."""
        asked, self._questions = self._questions > 0, 0
        return asked
