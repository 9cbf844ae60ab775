"""Report where all ranks are, at any moment, without disturbing them.

While a supervisor or a thread world waits for ranks, it is registered as a source. A separate
thread, started by the first question, asks the most recent source and delivers the text. Without a
source, it reports where the main thread is.

    ask()            any thread, or a signal handler   queue a question; return at once
    _StatusThread    takes the question                asks the source; waits up to ANSWER_S
    StatusRequests   `where_answers`, in the loop      asks the ranks; waits up to a second
    on_answer()      in the status thread              gets the text
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

#: How long a source may take to answer. It waits one second for ranks; the rest is for a busy
#: machine, where the supervisor's loop runs late.
ANSWER_S = 3.0
# Answering costs every rank about a millisecond. A user who keeps asking must not slow the ranks
# down, nor make a waiting rank look busy. Questions during the pause get one answer together.
_PAUSE_S = 0.2


class StatusSource(Protocol):
    """An object that knows where the ranks of a test are."""

    def status_text(self, limit_s: float) -> str | None:
        """Return the text within about `limit_s` seconds; None if it is not known in time.

        The status thread calls this, not the thread that waits for the ranks.
        """


class Wakeup:
    """A pipe with which any thread wakes a loop that waits on descriptors."""

    def __init__(self) -> None:
        ends = os.pipe()
        for fd in ends:
            os.set_blocking(fd, False)
        self._read_end, self._write_end = (
            OwnDescriptor(fd, "the pipe with which the runner asks where its tests are")
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
            with contextlib.suppress(OSError):  # the pipe is full: it is set already
                os.write(self._write_end.fd, b"!")

    def clear(self) -> None:
        if self._read_end.is_intact:
            with contextlib.suppress(OSError):
                os.read(self.fd, 1 << 12)

    def close(self) -> None:
        self._read_end.close()
        self._write_end.close()


class _StatusThread:
    """Answers the questions of this process, one at a time."""

    def __init__(self, on_answer: Callable[[str], None]) -> None:
        self.on_answer = on_answer
        self.wakeup = Wakeup()
        # True for a question, False to end the thread. SimpleQueue.put() is reentrant, so a signal
        # handler may call it. queue.Queue is not: a handler that interrupts its put() deadlocks.
        self._questions: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._not_started = _thread.allocate_lock()

    def ask(self) -> None:
        self._questions.put(True)
        if self._not_started.acquire(blocking=False):
            # This may run in a signal handler that interrupted threading.Thread.start(), which
            # holds non-reentrant locks. A raw thread can wait for them; this one would deadlock.
            with contextlib.suppress(RuntimeError):  # the interpreter is about to end
                _thread.start_new_thread(self._start, ())

    def _start(self) -> None:
        OwnThread(self._serve, (), "harness-where").start()

    def _serve(self) -> None:
        while self._questions.get():
            try:
                self.on_answer(_text())
            except Exception:  # keep answering later questions
                traceback.print_exc()
            time.sleep(_PAUSE_S)
            self._merge()

    def _merge(self) -> None:
        """Merge the questions that are queued into one."""
        while self._questions.qsize() > 1:
            if not self._questions.get():
                self._questions.put(False)
                return

    def stop(self) -> None:
        self._questions.put(False)


_status_thread: _StatusThread | None = None
_sources: list[StatusSource] = []


def enable(on_answer: Callable[[str], None]) -> None:
    """Start answering questions in this process.

    Args:
        on_answer: called with each answer (a line for each rank) in the status thread.
    """
    global _status_thread
    if _status_thread is None:
        _status_thread = _StatusThread(on_answer)
    else:
        _status_thread.on_answer = on_answer


def disable() -> None:
    """Stop answering questions."""
    global _status_thread
    stopping, _status_thread = _status_thread, None
    if stopping is not None:
        stopping.stop()


def ask() -> None:
    """Ask where all ranks are; return at once. Safe in any thread and in signal handlers.

    Does nothing unless `enable()` was called in this process; a fork must call it again.
    """
    if _status_thread is not None:
        _status_thread.ask()


def wakeup() -> Wakeup | None:
    """Return the pipe that wakes a source; None if nobody can ask in this process."""
    if _status_thread is None:
        return None
    if not _status_thread.wakeup.is_intact:  # a test has closed it
        _status_thread.wakeup.close()
        _status_thread.wakeup = Wakeup()
    return _status_thread.wakeup


@contextlib.contextmanager
def answering_from(source: StatusSource) -> Iterator[None]:
    """Answer questions from this source inside the block."""
    _sources.append(source)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # a fork has cleared the list
            _sources.remove(source)


def _text() -> str:
    for source in _sources[-1:]:
        text = source.status_text(ANSWER_S)
        if text is not None:
            return text
    return table([position_of_process(snapshot.take_of_main_thread())])


def _forget_in_fork() -> None:
    # A fork has only the thread that forked, so the status thread does not exist there.
    global _status_thread
    if _status_thread is not None:
        _status_thread.wakeup.close()
    _status_thread = None
    _sources.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_fork)
