"""Find the rank that the calling code runs in: the current thread, or this process."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Protocol

from harness.model.example import Example
from harness.model.expectation import Expectation
from harness.model.outcome import ReportedOutcome
from harness.model.phase import Phase
from harness.ranks.call_recorder import CallRecorder
from harness.ranks.rank_store import RankStore


class ThisRank(Protocol):
    """A rank as seen by the code that runs in it.

    Attributes:
        example: the example of a property test that the body runs; else None.
        calls: records what the rank communicates; None if it does not.
    """

    example: Example | None

    @property
    def calls(self) -> CallRecorder | None: ...

    def meet(self, label: str, value: str = "") -> tuple[str, ...]:
        """Wait until all ranks have called this; return their values, in the order of ranks."""

    def report_expectation(self, expectation: Expectation) -> None:
        """Report a text that the body has produced in accept mode."""

    def exempt_calls(self, begins: bool) -> None:
        """Begin or end a part of the test whose calls the audit leaves out."""


class ProcessRank(ThisRank, Protocol):
    """A rank that is a process; `harness.ranks.child.rank.Rank`, as seen by the test classes.

    PyTorch's hooks `_run` and `run_test` get it under the name `parent_pipe`.

    Attributes:
        local_rank: its number among the ranks of its host.
        store: the stores of its test.
    """

    local_rank: int
    store: RankStore

    @property
    def goes_on(self) -> bool:
        """Whether this process runs another test or example after the current body."""

    def enter(self, phase: Phase) -> None:
        """Enter the next phase of the test."""

    def note_environment(self) -> None:
        """Record the environment again: the class, not the test, has changed it so far."""

    def bring_up_group(self, isolation: str, key: object, make: Callable[[], None]) -> None:
        """Set up the default process group: reuse a kept one if isolation and key allow it."""

    def report(self, outcome: ReportedOutcome) -> None:
        """Report the outcome of the body. The first report counts, or the first bad one."""

    def await_peers(self) -> None:
        """Wait until no peer needs this rank's connections any more."""

    def leave_group(self, *, exits: bool) -> None:
        """Destroy the process groups, unless the next test reuses the default one."""

    def report_sabotage(self, deed: str) -> None:
        """Report that @kill_rank or @stop_rank is about to hit this rank ("kill" or "stop")."""


# With the process id, so that a fork of a rank, which inherits the variable, is not a rank. Threads
# that a thread rank starts are not ranks either: a thread-local is empty in them.
_of_process: tuple[int, ProcessRank] | None = None
_of_thread = threading.local()
# A process that is not a rank, such as one that a test has spawned, may create stores, too.
_no_store = RankStore()


def set_for_process(rank: ProcessRank) -> None:
    """Make this process a rank. Its forks are not ranks."""
    global _of_process
    _of_process = (os.getpid(), rank)


def set_for_thread(rank: ThisRank) -> None:
    """Make the calling thread a rank."""
    _of_thread.rank = rank


def find() -> ThisRank | None:
    """Return the rank that the calling code runs in; None outside ranks."""
    of_thread: ThisRank | None = getattr(_of_thread, "rank", None)
    if of_thread is not None:
        return of_thread
    if _of_process is not None and _of_process[0] == os.getpid():
        return _of_process[1]
    return None


def call_recorder() -> CallRecorder | None:
    """Return the recorder of the rank that the calling code runs in; None if nothing records."""
    rank = find()
    return None if rank is None else rank.calls


def current() -> ThisRank:
    """Return the rank that the calling code runs in. Raises RuntimeError outside ranks."""
    rank = find()
    if rank is None:
        raise RuntimeError("call this only in a rank, while the body of its test runs")
    return rank


def of_process() -> ProcessRank | None:
    """Return the rank that this process is, or is a fork of; None if it is neither."""
    return None if _of_process is None else _of_process[1]


def store() -> RankStore:
    """Return the stores of this process's test; in a process that is no rank, those of files."""
    rank = of_process()
    return _no_store if rank is None else rank.store
