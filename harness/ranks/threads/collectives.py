"""Run one collective of thread ranks: all members bring their tensors, one does the work.

It replaces torch's `multi_threaded_pg.Collective` (torch 2.13), in which an error in the work
reaches only the rank that does it, and every other rank waits until the end of the test.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from torch.testing._internal.distributed import multi_threaded_pg as torchs

from harness.diagnosis.waits import registered
from harness.model.evidence import Waiting
from harness.ranks.threads.ledger import TERMINATED

# The group rank whose thread does the work for all members, as in torch's class.
WORKER = 0


class WorkFailedError(Exception):
    """The work of a collective failed on another rank. `error` is what that rank raised."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error

    def as_error(self, op: str, rank: int) -> Exception:
        """Return the error for another member, of the same type if possible.

        Args:
            op: the collective.
            rank: the rank in the world that did the work.
        """
        text = f"{op} failed on rank {rank}: {self.error}"
        try:
            told = type(self.error)(text)
        except Exception:  # a class whose constructor wants other arguments
            told = None
        if told is None or str(told) != text:
            return RuntimeError(f"{text} ({type(self.error).__name__})")
        return told


class ThreadCollective:
    """One collective of one group. Every member calls `join` once.

    Args:
        size: the number of members.
        work: torch's object whose method `work` moves the data of all members.
        op: the collective's name.
        must_end: whether the members are to leave instead of waiting for each other.
        on_done: called when the group is ready for its next collective.
    """

    def __init__(
        self,
        size: int,
        work: Any,
        op: str,
        must_end: Callable[[], bool],
        on_done: Callable[[], None],
    ) -> None:
        self._work = work
        self._op = op
        self._must_end = must_end
        self._on_done = on_done
        self._data: list[Any] = [None] * size
        self._missing = size
        self._is_done = False
        self._error: BaseException | None = None
        lock = threading.Lock()
        self._all_came = threading.Condition(lock)
        self._done = threading.Condition(lock)

    def join(self, rank: int, data: Any) -> Any:
        """Contribute this member's tensors; return when the collective is done.

        Args:
            rank: the member's rank in the group.
            data: its tensors, as torch passes them.

        Returns:
            the work, which has completed.

        Raises:
            WorkFailedError: if the work failed on the rank that does it.
            SystemExit: if the members are to end.
        """
        with self._all_came:
            self._data[rank] = data
            self._missing -= 1
            if not self._missing:
                self._all_came.notify_all()
            if rank == WORKER:
                self._wait(self._all_came, lambda: not self._missing)
            else:
                self._wait(self._done, lambda: self._is_done)
        if rank == WORKER:
            self._do_work()
        elif isinstance(self._error, Exception):
            raise WorkFailedError(self._error)
        elif self._error is not None:  # the worker's thread was ended in the middle of it
            raise SystemExit(TERMINATED)
        return torchs.ret_work(data)

    def release(self) -> None:
        """Wake the waiting members, so that they check whether they must end."""
        with self._all_came:
            self._all_came.notify_all()
            self._done.notify_all()

    def _wait(self, condition: threading.Condition, has_come: Callable[[], bool]) -> None:
        with registered(Waiting("collective", self._op), has_come):
            condition.wait_for(lambda: has_come() or self._must_end())
        if self._must_end():
            raise SystemExit(TERMINATED)

    def _do_work(self) -> None:
        try:
            self._work.work(self._data)
        except BaseException as error:
            self._error = error
            raise
        finally:
            # First prepare the next collective: a released member may begin it at once.
            self._on_done()
            with self._done:
                self._is_done = True
                self._done.notify_all()
