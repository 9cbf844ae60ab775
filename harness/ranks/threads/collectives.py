"""Run one collective of thread ranks: all members pass their tensors, one does the work.

It replaces torch's `multi_threaded_pg.Collective` (torch 2.13), in which an error in the work
reaches only the rank that does it, and all other ranks wait until the end of the test.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from torch.testing._internal.distributed import multi_threaded_pg

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
            error = type(self.error)(text)
        except Exception:  # a class whose constructor needs other arguments
            error = None
        if error is None or str(error) != text:
            return RuntimeError(f"{text} ({type(self.error).__name__})")
        return error


# States of a collective:
#
#   waiting    some members have not called join(); the others wait, the worker on `_all_here`
#   working    all members are here; the worker moves the data, without the lock
#   done       `_is_done`, with the result or with `_error`; every member returns or raises
#
# must_end() can become true at any time; release() then wakes the members, which raise SystemExit.
# There is one lock for both conditions, so no member can miss a change between its check and its
# wait.


class ThreadCollective:
    """One collective of one group. Every member calls `join` once.

    Args:
        size: the number of members.
        work: torch's object whose method `work` moves the data of all members.
        op: the collective's name.
        must_end: whether the members must end instead of waiting for each other.
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
        self._all_here = threading.Condition(lock)
        self._done = threading.Condition(lock)

    def join(self, rank: int, data: Any) -> Any:
        """Pass this member's tensors; return when the collective is done.

        Args:
            rank: the member's rank in the group.
            data: its tensors, as torch passes them.

        Returns:
            the work, which has completed.

        Raises:
            WorkFailedError: if the work failed on the rank that does it.
            SystemExit: if the members must end.
        """
        with self._all_here:
            self._data[rank] = data
            self._missing -= 1
            if not self._missing:
                self._all_here.notify_all()
            if rank == WORKER:
                self._wait(self._all_here, lambda: not self._missing)
            else:
                self._wait(self._done, lambda: self._is_done)
        if rank == WORKER:
            self._do_work()
        elif isinstance(self._error, Exception):
            raise WorkFailedError(self._error)
        elif self._error is not None:  # the worker's thread was ended in the middle of it
            raise SystemExit(TERMINATED)
        return multi_threaded_pg.ret_work(data)

    def release(self) -> None:
        """Wake the waiting members, so that they check whether they must end."""
        with self._all_here:
            self._all_here.notify_all()
            self._done.notify_all()

    def _wait(self, condition: threading.Condition, is_over: Callable[[], bool]) -> None:
        with registered(Waiting("collective", self._op), is_over):
            condition.wait_for(lambda: is_over() or self._must_end())
        if self._must_end():
            raise SystemExit(TERMINATED)

    def _do_work(self) -> None:
        try:
            self._work.work(self._data)
        except BaseException as error:
            self._error = error
            raise
        finally:
            # First remove this collective from its group: a member that wakes may start the next
            # one at once.
            self._on_done()
            with self._done:
                self._is_done = True
                self._done.notify_all()
