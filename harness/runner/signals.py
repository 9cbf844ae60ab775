"""Signals to a run: stop, stop at once, print a status, suspend.

    SIGINT (Ctrl-C), SIGTERM    stop; the second one stops at once
    SIGALRM                     this process's own timer: --run-timeout, or the end of the grace
    SIGUSR1, SIGQUIT (Ctrl-\\)   print where the tests are
    SIGTSTP (Ctrl-Z)            suspend, but only once the workers are stopped too

Handlers do as little as possible. With workers, a handler only counts, and a byte in a pipe wakes
the runner's loop. With -j 0 a test runs in this process and there is no loop, so the handler raises
KeyboardInterrupt where it must.
"""

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
_STATUS_REQUESTS = (signal.SIGUSR1, signal.SIGQUIT)
_STOPS = (signal.SIGINT, signal.SIGTERM)
# Ctrl-Z on a terminal.
_SUSPEND = signal.SIGTSTP
#: `stopped_by` for a run whose time is up.
RUN_TIMEOUT = "--run-timeout"
_NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGALRM: RUN_TIMEOUT}
_MIN_TIMER_S = 0.001
_SENDING_CALL = re.compile(
    r"(?:[\w.]+\.)?\b(?:kill|killpg|raise_signal|pthread_kill|pidfd_send_signal)\s*\("
)


def is_sent_by(frame: FrameType | None) -> bool:
    """Return whether the code that a signal has interrupted is just sending one.

    CPython (3.11 to 3.14) handles a signal that a process sends to itself before the call that
    sends it returns. So the frame tells the test's own signal from the user's.
    """
    if frame is None:
        return False
    file, line = frame.f_code.co_filename, frame.f_lineno
    # One entry for each two bytes of code.
    positions = islice(frame.f_code.co_positions(), frame.f_lasti // 2, None)
    begin, _, column, _ = next(positions, (line, line, 0, 0))
    text = linecache.getline(file, begin or line, frame.f_globals).encode()[column or 0 :]
    return _SENDING_CALL.match(text.decode(errors="replace")) is not None


def change_in_forks(numbers: Iterable[int], change: Callable[[], object]) -> None:
    """Change how forks of this process handle these signals, before any signal can arrive there.

    If a test forks and terminates the child, the child must end. CPython discards signals that
    arrive in the child before it has finished forking. So the signals are blocked around the fork,
    until `change` has run.

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
    """Return the error message for a test that has sent a signal to its own process."""
    return (
        f"the test sent {signal.Signals(number).name} to its own process, which would have ended "
        "the run: send it to a child process"
    )


def _main_thread() -> int:
    number = threading.main_thread().ident
    assert number is not None
    return number


class Signals:
    """Handles signals during a `with` block.

    Args:
        wakes: whether a loop waits on `fd`.

    Attributes:
        fd: becomes readable when a signal has arrived; -1 if no loop waits.
        interrupts: how many requests to stop have arrived.
        stopped_by: the first request to stop: Ctrl-C, SIGTERM, or RUN_TIMEOUT.
        grace_s: time between the first request to stop and KeyboardInterrupt.
        on_question: called when the user asks where the tests are.
        on_stop: called at the first request to stop, if there is a grace period.
    """

    def __init__(self, wakes: bool = True) -> None:
        self.interrupts = 0
        self.grace_s = 0.0
        self._status_requests = 0
        self._previous: dict[int, Any] = {}
        self._raises = False
        self._lock = threading.Lock()
        self.stopped_by = ""
        self.on_question: Callable[[], None] | None = None
        self.on_stop: Callable[[], None] | None = None
        self._own_signal = ""
        self._is_to_suspend = False
        # No pipe with -j 0: a test in this process could close its descriptors.
        self.fd, self._write_fd = os.pipe() if wakes else (-1, -1)
        for fd in (self.fd, self._write_fd) if wakes else ():
            os.set_blocking(fd, False)

    def __enter__(self) -> Signals:
        for number in (*_STATUS_REQUESTS, *_STOPS):
            self._previous[number] = signal.signal(number, self._on_signal)
        if self._write_fd >= 0:
            # Python writes a byte for each signal, so the runner's select() returns without a race
            # between checking a flag and going to sleep.
            signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
            # A shell without job control ignores SIGTSTP; nothing could continue this process.
            if signal.getsignal(_SUSPEND) != signal.SIG_IGN:
                self._previous[_SUSPEND] = signal.signal(_SUSPEND, self._on_signal)
        change_in_forks(tuple(self._previous), self._restore_in_fork)
        return self

    def _restore_in_fork(self) -> None:
        """Restore the previous handlers in a process that a test has forked."""
        for number, handler in self._previous.items():
            if signal.getsignal(number) == self._on_signal:
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
        """Set whether a request to stop raises KeyboardInterrupt, or is only counted.

        Args:
            does: whether it raises.
            limit: the end of the run's time, which then counts as a request to stop.
        """
        self._raises = does
        if not does:
            with self._lock:  # after this, `stop_now` sends no alarm
                signal.setitimer(signal.ITIMER_REAL, 0.0)
        elif (remaining := limit.remaining_s()) is not None:
            self._alarm_after(remaining)

    def _alarm_after(self, seconds: float) -> None:
        # Install the handler again each time: a test may have replaced it.
        self._previous.setdefault(signal.SIGALRM, signal.signal(signal.SIGALRM, self._on_signal))
        signal.setitimer(signal.ITIMER_REAL, max(seconds, _MIN_TIMER_S))  # 0 turns the timer off

    def stop_now(self) -> None:
        """End the grace period: raise KeyboardInterrupt in the main thread. Thread-safe."""
        with self._lock:
            if self._raises:  # otherwise there may be no handler, and SIGALRM ends the process
                signal.pthread_kill(_main_thread(), signal.SIGALRM)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if number in _STATUS_REQUESTS:
            self._status_requests += 1
            if self.on_question is not None:
                self.on_question()
            return
        if number == _SUSPEND:
            self._is_to_suspend = True
            return
        if self._raises and number in _STOPS and is_sent_by(frame):
            self._raise_own(number)
        self.interrupts += 1
        # The first request is the reason; a second Ctrl-C only makes it faster.
        self.stopped_by = self.stopped_by or _NAMES[signal.Signals(number)]
        if self._raises and self.grace_s and self.interrupts == 1:
            self._alarm_after(self.grace_s)
            if self.on_stop is not None:
                self.on_stop()
        elif self._raises:
            raise KeyboardInterrupt

    def _raise_own(self, number: int) -> NoReturn:
        """Raise in a test that has sent this signal to its own process."""
        if number == signal.SIGINT:
            raise KeyboardInterrupt  # as without the runner; the test may catch it
        self._own_signal = told_of_own(number)
        raise RuntimeError(self._own_signal)

    def take_own(self) -> str:
        """Return the error for a signal that the test sent to this process; empty if none."""
        text, self._own_signal = self._own_signal, ""
        return text

    def drain(self) -> None:
        """Drain `fd`, so that it becomes readable at the next signal."""
        try:
            os.read(self.fd, 4096)
        except BlockingIOError:
            return

    def take_suspension(self) -> bool:
        """Whether the user has asked, since the last call, to suspend this process (Ctrl-Z)."""
        wanted, self._is_to_suspend = self._is_to_suspend, False
        return wanted

    def suspend(self) -> None:
        """Suspend this process; return when it is continued."""
        signal.signal(_SUSPEND, signal.SIG_DFL)
        os.kill(os.getpid(), _SUSPEND)
        signal.signal(_SUSPEND, self._on_signal)

    def take_question(self) -> bool:
        """Whether the user has asked, since the last call, where the tests are."""
        asked, self._status_requests = self._status_requests > 0, 0
        return asked
