"""What the user asks of a run while it goes on: to stop, to stop at once, to say where it is."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from harness.model.clock import NEVER, Deadline

# SIGQUIT is Ctrl-\ on a terminal.
_QUESTIONS = (signal.SIGUSR1, signal.SIGQUIT)
_STOPS = (signal.SIGINT, signal.SIGTERM)
#: What stops a run whose time is up.
RUN_TIMEOUT = "--run-timeout"
_NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGALRM: RUN_TIMEOUT}
_SOON_S = 0.001


def _main_thread() -> int:
    number = threading.main_thread().ident
    assert number is not None
    return number


class Signals:
    """Takes signals for the length of a `with` block.

    Attributes:
        fd: becomes readable when a signal has come.
        interrupts: how often the user has asked to stop.
        stopped_by: what asked first: Ctrl-C, SIGTERM, or RUN_TIMEOUT.
        grace_s: how long the first time is only noted, before KeyboardInterrupt is raised.
        on_question: called when the user asks where the tests are.
        on_stop: called when the first request to stop is noted.
    """

    def __init__(self) -> None:
        self.interrupts = 0
        self.grace_s = 0.0
        self._questions = 0
        self._previous: dict[int, Any] = {}
        self._raises = False
        self._lock = threading.Lock()
        self.stopped_by = ""
        self.on_question: Callable[[], None] | None = None
        self.on_stop: Callable[[], None] | None = None
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

    def raise_on_interrupt(self, does: bool, limit: Deadline = NEVER) -> None:
        """Whether asking to stop shall raise KeyboardInterrupt, rather than just be noted.

        Args:
            does: whether it does.
            limit: when the time of the run is up, which is then the same as being asked.
        """
        self._raises = does
        if not does:
            with self._lock:  # from here on, nobody sends an alarm
                signal.setitimer(signal.ITIMER_REAL, 0.0)
        elif (remaining := limit.remaining_s()) is not None:
            self._alarm_after(remaining)

    def _alarm_after(self, seconds: float) -> None:
        # Each time: a test may have set a handler of its own, or none, meanwhile.
        self._previous.setdefault(signal.SIGALRM, signal.signal(signal.SIGALRM, self._heard))
        signal.setitimer(signal.ITIMER_REAL, max(seconds, _SOON_S))  # 0 would be never

    def stop_now(self) -> None:
        """End the grace: raise KeyboardInterrupt in the main thread. For any thread."""
        with self._lock:
            if self._raises:  # else the alarm may find no handler, and end the process
                signal.pthread_kill(_main_thread(), signal.SIGALRM)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if number in _QUESTIONS:
            self._questions += 1
            if self.on_question is not None:
                self.on_question()
            return
        self.interrupts += 1
        self.stopped_by = self.stopped_by or _NAMES[signal.Signals(number)]
        if self._raises and self.grace_s and self.interrupts == 1:
            self._alarm_after(self.grace_s)
            if self.on_stop is not None:
                self.on_stop()
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
