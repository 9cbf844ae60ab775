"""What the user asks of a run while it goes on: to stop, to stop at once, to say where it is."""

from __future__ import annotations

import linecache
import os
import re
import signal
import threading
from collections.abc import Callable, Iterable
from itertools import islice
from types import FrameType, TracebackType
from typing import Any, NoReturn

from harness.model.clock import NEVER, Deadline

# SIGQUIT is Ctrl-\ on a terminal.
_QUESTIONS = (signal.SIGUSR1, signal.SIGQUIT)
_STOPS = (signal.SIGINT, signal.SIGTERM)
# Ctrl-Z on a terminal.
_SUSPEND = signal.SIGTSTP
#: What stops a run whose time is up.
RUN_TIMEOUT = "--run-timeout"
_NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGALRM: RUN_TIMEOUT}
_SOON_S = 0.001
_SENDING = re.compile(
    r"(?:[\w.]+\.)?\b(?:kill|killpg|raise_signal|pthread_kill|pidfd_send_signal)\s*\("
)


def is_sent_by(frame: FrameType | None) -> bool:
    """Return whether the code that a signal has interrupted is just sending one.

    CPython (3.10 to 3.14) handles a signal that a process sends to itself before the call that
    sends it returns. So the frame tells the test's own signal from the user's.
    """
    if frame is None:
        return False
    file, line = frame.f_code.co_filename, frame.f_lineno
    if not hasattr(frame.f_code, "co_positions"):  # Python 3.10 knows the line only
        return _SENDING.search(linecache.getline(file, line, frame.f_globals)) is not None
    # One entry for each two bytes of code.
    positions = islice(frame.f_code.co_positions(), frame.f_lasti // 2, None)
    begin, _, column, _ = next(positions, (line, line, 0, 0))
    text = linecache.getline(file, begin or line, frame.f_globals).encode()[column or 0 :]
    return _SENDING.match(text.decode(errors="replace")) is not None


def change_in_forks(numbers: Iterable[int], change: Callable[[], object]) -> None:
    """Have the forks of this process handle these signals otherwise, from the first instant on.

    A test that forks and then terminates the child must find it terminated. CPython forgets in the
    child the signals that have come before it is up, so they are held back until `change` is done.

    Args:
        numbers: the signals.
        change: called in the child to change the handlers.
    """
    before = threading.local()

    def hold() -> None:
        before.mask = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)

    def let_through() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, before.mask)

    def begin() -> None:
        change()
        let_through()

    os.register_at_fork(before=hold, after_in_parent=let_through, after_in_child=begin)


def told_of_own(number: int) -> str:
    """Return what to report of a test that has sent a signal to its own process."""
    return (
        f"the test sent {signal.Signals(number).name} to its own process, which would have ended "
        "the run: send it to a child process"
    )


def _main_thread() -> int:
    number = threading.main_thread().ident
    assert number is not None
    return number


class Signals:
    """Takes signals for the length of a `with` block.

    Args:
        wakes: whether `fd` is wanted, by a loop that waits for it.

    Attributes:
        fd: becomes readable when a signal has come; -1 if it is not wanted.
        interrupts: how often the user has asked to stop.
        stopped_by: what asked first: Ctrl-C, SIGTERM, or RUN_TIMEOUT.
        grace_s: how long the first time is only noted, before KeyboardInterrupt is raised.
        on_question: called when the user asks where the tests are.
        on_stop: called when the first request to stop is noted.
    """

    def __init__(self, wakes: bool = True) -> None:
        self.interrupts = 0
        self.grace_s = 0.0
        self._questions = 0
        self._previous: dict[int, Any] = {}
        self._raises = False
        self._lock = threading.Lock()
        self.stopped_by = ""
        self.on_question: Callable[[], None] | None = None
        self.on_stop: Callable[[], None] | None = None
        self._own_signal = ""
        # Only where no test runs in this process, which could close them.
        self._is_to_suspend = False
        self.fd, self._write_fd = os.pipe() if wakes else (-1, -1)
        for fd in (self.fd, self._write_fd) if wakes else ():
            os.set_blocking(fd, False)

    def __enter__(self) -> Signals:
        for number in (*_QUESTIONS, *_STOPS):
            self._previous[number] = signal.signal(number, self._heard)
        if self._write_fd >= 0:
            signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
            if signal.getsignal(_SUSPEND) != signal.SIG_IGN:  # a shell without job control
                self._previous[_SUSPEND] = signal.signal(_SUSPEND, self._heard)
        change_in_forks(tuple(self._previous), self._let_go_in_a_fork)
        return self

    def _let_go_in_a_fork(self) -> None:
        """Have a process that a test forks treat signals as it would without the runner."""
        for number, handler in self._previous.items():
            if signal.getsignal(number) == self._heard:
                signal.signal(number, handler)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()
        if self._write_fd >= 0:
            signal.set_wakeup_fd(-1)
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
        if number == _SUSPEND:
            self._is_to_suspend = True
            return
        if self._raises and number in _STOPS and is_sent_by(frame):
            self._raise_own(number)
        self.interrupts += 1
        self.stopped_by = self.stopped_by or _NAMES[signal.Signals(number)]
        if self._raises and self.grace_s and self.interrupts == 1:
            self._alarm_after(self.grace_s)
            if self.on_stop is not None:
                self.on_stop()
        elif self._raises:
            raise KeyboardInterrupt

    def _raise_own(self, number: int) -> NoReturn:
        """The test that runs in this process has sent this signal to it."""
        if number == signal.SIGINT:
            raise KeyboardInterrupt  # as Python does, for the test to catch
        self._own_signal = told_of_own(number)
        raise RuntimeError(self._own_signal)

    def take_own(self) -> str:
        """Return what to report of a signal by which the test would have ended the run."""
        told, self._own_signal = self._own_signal, ""
        return told

    def heed(self) -> None:
        """Make `fd` wait for the next signal."""
        try:
            os.read(self.fd, 4096)
        except BlockingIOError:
            return

    def take_suspension(self) -> bool:
        """Whether the user wants this process to stop until it is continued, as by Ctrl-Z."""
        wanted, self._is_to_suspend = self._is_to_suspend, False
        return wanted

    def suspend(self) -> None:
        """Stop this process; returns when it is continued."""
        signal.signal(_SUSPEND, signal.SIG_DFL)
        os.kill(os.getpid(), _SUSPEND)
        signal.signal(_SUSPEND, self._heard)

    def take_question(self) -> bool:
        """Whether the user has asked, since the last call, where the tests are."""
        asked, self._questions = self._questions > 0, 0
        return asked
