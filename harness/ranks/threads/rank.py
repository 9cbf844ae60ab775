"""One rank as a thread: run the body and keep its outcome."""

from __future__ import annotations

import threading
import unittest
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from harness.model import settings
from harness.model.clock import now
from harness.model.communication import FULL, CommunicationRecord
from harness.model.example import Example
from harness.model.expectation import Expectation
from harness.model.outcome import (
    Deadlocked,
    Ended,
    Exited,
    Failed,
    Outcome,
    Passed,
    Problem,
    Raised,
    Skipped,
    TimedOut,
    outcome_of_problems,
)
from harness.model.phase import Phase
from harness.model.pytest_outcomes import skip_of
from harness.model.skips import skip_reason_of_exit
from harness.ranks import this_rank
from harness.ranks.call_recorder import CallRecorder
from harness.ranks.problems import problem_of
from harness.ranks.process_exit import exit_code_of
from harness.ranks.progress import Progress
from harness.ranks.tensor_watch import watch_tensors
from harness.ranks.threads.ledger import TERMINATED

if TYPE_CHECKING:
    from queue import SimpleQueue

    from harness.ranks.threads.generators import RankGenerators
    from harness.ranks.threads.groups import ThreadedGroups

_GOOD = (Passed, Skipped)


class World(Protocol):
    """The part of `ThreadWorld` that a rank uses.

    Attributes:
        groups: the process groups of the world's ranks.
        ended: a queue that gets the number of each rank that has ended.
    """

    groups: ThreadedGroups
    ended: SimpleQueue[int]

    def meet(self, rank: int, label: str, value: str = "") -> tuple[str, ...]: ...

    def leave_meetings(self, rank: int) -> None: ...

    def release_ranks(self) -> None: ...


class RankEnded(SystemExit):
    """Raised asynchronously in a thread that must end."""


# What sets the outcome of a thread rank. A rank has no exit code, so it can get several outcomes;
# `_take` decides which one stands:
#
#   fails()    an exception has ended the body; preliminary, as cleanups may fail, too
#   report()   the outcome of the body and its cleanups; completes a preliminary one
#   blame()    the world, at the time limit or in a deadlock
#   run()      SystemExit or another exception that has left the body
#
# The first one stands, unless it is good and a later one is not.


class RankThread(threading.Thread):
    """One rank. Its body runs the test and calls `report`."""

    def __init__(
        self,
        rank: int,
        body: Callable[[int], None],
        world: World,
        generators: RankGenerators,
    ) -> None:
        # A daemon: one that hangs must not keep the process alive.
        super().__init__(name=f"rank {rank}", daemon=True)
        self.rank = rank
        self.outcome: Outcome | None = None
        self.at_s = 0.0
        self.done = False
        self.progress = Progress()
        self.ended_s: float | None = None
        self.example: Example | None = None
        self.set_up: Mapping[str, Any] = {}
        self.expectations: list[Expectation] = []
        self.communication: CommunicationRecord | None = None
        self.calls = CallRecorder() if world.groups.audit == FULL else None
        self.groups = world.groups
        self._generators = generators
        self._body = body
        self._world = world
        self._lock = threading.Lock()
        self._is_preliminary = False

    def seed(self) -> None:
        """Seed the rank's own random generators from the run's seed.

        PyTorch's thread ranks share one generator, so they draw different numbers, and some of its
        tests rely on that. So under --torch-checkout each rank gets a different seed.
        """
        own = self.rank if settings.DROPIN.value() else 0
        self._generators.seed(settings.SEED.value() + own)

    def report(self, outcome: Outcome) -> None:
        """Report the outcome of the body. A later failure still counts."""
        self._end_record()
        self.progress.enter(Phase.EXIT)
        with self._lock:
            self._take(outcome)
            self._is_preliminary = False

    def fails(self, problem: Problem) -> None:
        """Record the problem that ended the body, and stop peers from waiting for this rank."""
        with self._lock:
            self._is_preliminary = self._take(outcome_of_problems((problem,)))
        self._world.leave_meetings(self.rank)
        self._world.release_ranks()

    def meet(self, label: str, value: str = "") -> tuple[str, ...]:
        """Wait until all ranks have called this; return their values, in the order of ranks."""
        return self._world.meet(self.rank, label, value)

    def report_expectation(self, expectation: Expectation) -> None:
        """Report a text that the body has produced in accept mode."""
        self.expectations.append(expectation)

    def exempt_calls(self, begins: bool) -> None:
        """Begin or end a part of the test whose calls the audit leaves out."""
        if self.calls is not None:
            self.calls.exempt(begins)

    def blame(self, outcome: TimedOut | Deadlocked) -> None:
        """Set the outcome of a rank that still runs after the time limit or in a deadlock."""
        with self._lock:
            if not self.done:
                self._take(outcome)

    def _end_record(self) -> None:
        """Keep the record of what the rank communicated, once its body has ended."""
        calls, self.calls = self.calls, None
        if calls is not None:
            watch_tensors(False)
            self.communication = calls.finish()

    def _take(self, outcome: Outcome) -> bool:
        """Set the outcome unless a worse one is set; return whether it was set."""
        completes = self._is_preliminary and isinstance(outcome, Failed | Raised)
        is_first = self.outcome is None
        is_worse = isinstance(self.outcome, _GOOD) and not isinstance(outcome, _GOOD)
        if not (completes or is_first or is_worse):
            return False
        self.outcome = outcome
        self.at_s = self.at_s if completes else now()
        return True

    def run(self) -> None:
        this_rank.set_for_thread(self)
        self.progress.enter(Phase.SET_UP)
        try:
            with self._generators.in_use():
                self._body(self.rank)
            if self.outcome is None:
                raise RuntimeError(
                    "_run() returned without running the test: an override must call "
                    "self.run_test_with_threaded_pg(test_name, rank, world_size)"
                )
        except BaseException as error:
            self.report(_outcome_of(error))
        self._world.leave_meetings(self.rank)
        if not isinstance(self.outcome, _GOOD):
            self._world.release_ranks()
        with self._lock:
            self.done, self.ended_s = True, now()
        self._world.ended.put(self.rank)


def _outcome_of(error: BaseException) -> Outcome:
    """Return the outcome of a rank that this exception has ended."""
    if isinstance(error, unittest.SkipTest):
        return Skipped(str(error))
    if (skip := skip_of(error)) is not None:
        return skip
    problem = problem_of((type(error), error, error.__traceback__))
    if not isinstance(error, SystemExit):
        return outcome_of_problems((problem,))
    if isinstance(error, RankEnded) or error.code == TERMINATED:
        return Ended()
    reason = skip_reason_of_exit(error.code)
    if reason is not None:
        return Skipped(reason)
    return Exited(exit_code_of(error), where=problem.where)


def current_rank() -> RankThread:
    """Return the rank of the calling thread. Raises RuntimeError in any other thread."""
    thread = threading.current_thread()
    if not isinstance(thread, RankThread):
        raise RuntimeError(f"thread {thread.name!r} is not a rank of a test")  # noqa: TRY004
    return thread
