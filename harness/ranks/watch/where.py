"""Where all ranks are, asked at any moment from anywhere in the process, without disturbing them.

Whoever waits for ranks is a witness as long as it does. A thread of its own, started by the first
question, asks the last witness, or else looks where the main thread is, and delivers the text.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import queue
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Protocol

from harness.diagnosis import snapshot
from harness.diagnosis.position import position_of_process, table
from harness.model.own_thread import OwnThread
from harness.ranks.descriptors import OwnDescriptor

#: How long a witness may take to answer. It gives mute ranks a second; the rest is for a machine
#: that is busy, where the loop that has the answer gets its turn late.
ANSWER_S = 3.0
# Answering costs every rank a millisecond or so. Who asks without end must not keep them from their
# work, nor make a rank that waits look busy; questions that come meanwhile get one answer together.
_PAUSE_S = 0.2


class StatusSource(Protocol):
    """Knows where the ranks of a test are."""

    def status_text(self, limit_s: float) -> str | None:
        """The text, within about so many seconds; None if it does not know in time.

        Called by another thread than the one that waits for the ranks.
        """


class Wakeup:
    """Wakes a loop that waits on descriptors, from any thread."""

    def __init__(self) -> None:
        ends = os.pipe()
        for fd in ends:
            os.set_blocking(fd, False)
        self._read_end, self._write_end = (
            OwnDescriptor(fd, "the pipe by which the runner asks where its tests are")
            for fd in ends
        )

    @property
    def fd(self) -> int:
        return self._read_end.fd

    @property
    def is_intact(self) -> bool:
        return self._read_end.is_intact and self._write_end.is_intact

    def set(self) -> None:
        if self._write_end.is_intact:
            with contextlib.suppress(OSError):  # it rings already
                os.write(self._write_end.fd, b"!")

    def clear(self) -> None:
        if self._read_end.is_intact:
            with contextlib.suppress(OSError):
                os.read(self.fd, 1 << 12)

    def close(self) -> None:
        self._read_end.close()
        self._write_end.close()


class _StatusThread:
    """Answers the questions of this process, one after the other."""

    def __init__(self, on_answer: Callable[[str], None]) -> None:
        self.on_answer = on_answer
        self.wakeup = Wakeup()
        # Of all queues, and locks, the only one that a signal's handler may put something into.
        self._questions: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._not_started = _thread.allocate_lock()

    def ask(self) -> None:
        self._questions.put(True)
        if self._not_started.acquire(blocking=False):
            # A signal's handler may have interrupted threading.Thread.start() itself, whose locks
            # are not to be taken twice; another thread can wait for them.
            with contextlib.suppress(RuntimeError):  # the interpreter is about to end
                _thread.start_new_thread(self._start, ())

    def _start(self) -> None:
        OwnThread(self._serve, (), "harness-where").start()

    def _serve(self) -> None:
        while self._questions.get():
            try:
                self.on_answer(_text())
            except Exception:  # one answer that cannot be given is not the end of all
                traceback.print_exc()
            time.sleep(_PAUSE_S)
            self._merge()

    def _merge(self) -> None:
        """Have the questions that have come meanwhile be one."""
        while self._questions.qsize() > 1:
            if not self._questions.get():
                self._questions.put(False)
                return

    def leave(self) -> None:
        self._questions.put(False)


_status_thread: _StatusThread | None = None
_sources: list[StatusSource] = []


def enable(on_answer: Callable[[str], None]) -> None:
    """From now on, answer the questions that are asked in this process.

    Args:
        on_told: given each answer, a line for each rank, by a thread of the harness.
    """
    global _status_thread
    if _status_thread is None:
        _status_thread = _StatusThread(on_answer)
    else:
        _status_thread.on_answer = on_answer


def disable() -> None:
    """Answer no more questions."""
    global _status_thread
    leaving, _status_thread = _status_thread, None
    if leaving is not None:
        leaving.leave()


def ask() -> None:
    """Ask where all ranks are; returns at once. For any thread, and for handlers of signals.

    In a process that nobody attends, as a fork of one that somebody does, nothing happens.
    """
    if _status_thread is not None:
        _status_thread.ask()


def wakeup() -> Wakeup | None:
    """What wakes a witness that waits on descriptors; None if there will be no questions."""
    if _status_thread is None:
        return None
    if not _status_thread.wakeup.is_intact:  # a test has closed it
        _status_thread.wakeup.close()
        _status_thread.wakeup = Wakeup()
    return _status_thread.wakeup


@contextlib.contextmanager
def answering_from(source: StatusSource) -> Iterator[None]:
    """Have the witness asked as long as this lasts."""
    _sources.append(source)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # in a fork there are none
            _sources.remove(source)


def _text() -> str:
    for source in _sources[-1:]:
        text = source.status_text(ANSWER_S)
        if text is not None:
            return text
    return table([position_of_process(snapshot.take_of_main_thread())])


def _forget() -> None:
    global _status_thread
    if _status_thread is not None:
        _status_thread.wakeup.close()
    _status_thread = None
    _sources.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
