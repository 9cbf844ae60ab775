"""Run the ranks of one test as threads of this process.

A thread cannot be killed. If it waits in a collective, the world releases it; if it runs Python
code, the world raises an exception in it. A thread that still runs after that outlives the test. It
is a daemon, so it does not keep the process alive.
"""

from __future__ import annotations

import contextlib
import ctypes
import queue
import threading
from collections.abc import Callable
from dataclasses import replace

from harness.diagnosis import deadlock
from harness.diagnosis.position import Position, position_of_rank, table
from harness.diagnosis.snapshot import take_of_thread
from harness.diagnosis.waits import registered, wait_of
from harness.diagnosis.words import state
from harness.model import settings
from harness.model.clock import NEVER, Deadline, SuspensionDetector, now
from harness.model.communication import OFF
from harness.model.errors import PeerLeftError
from harness.model.evidence import Evidence, Snapshot, Waiting
from harness.model.outcome import Deadlocked, Ended, TimedOut
from harness.model.phase import Phase
from harness.model.rank_report import RankReport
from harness.ranks.messages import MeetingAnswer
from harness.ranks.threads.rank import RankEnded, RankThread
from harness.ranks.watch import where
from harness.ranks.watch.meetings import Meetings

# How long peers may take to end by themselves after the first fault. They have been released from
# collectives, so this is for cleanups and for code between two collectives.
_PEER_GRACE_S = 2.0
# How long threads may take to end after an exception was raised in them. CPython raises it between
# two bytecodes, so a thread in a long C call (`time.sleep`, a matmul) does not get it in time.
_END_GRACE_S = 1.0

# States of a world of threads:
#
#   running    start()           wait() waits for a rank's end, the time limit, the deadlock watch
#   released   release_ranks()   a rank has failed, or the world blames those that still run. From
#                                here on `_at_fault` has the snapshots for the report, and no rank
#                                waits in a collective or a meeting.
#   ended      end()             threads that still run get RankEnded; then the patches are removed
#
# A rank that fails releases its peers itself, in its own thread: the main thread may be busy.


class ThreadWorld:
    """All ranks of one test.

    Args:
        size: the number of ranks.
        body: the function that each thread runs, with its rank; it calls
            `current_rank().report(outcome)`.
    """

    def __init__(self, size: int, body: Callable[[int], None], audit: str = OFF) -> None:
        from harness.ranks.threads.generators import RankGenerators

        # Imported late: the import adds torch's backend "threaded" to its list of backends.
        from harness.ranks.threads.groups import ThreadedGroups

        self.groups = ThreadedGroups(audit)
        self.ended: queue.SimpleQueue[int] = queue.SimpleQueue()
        seed = settings.SEED.value()
        self.threads = [RankThread(rank, body, self, RankGenerators(seed)) for rank in range(size)]
        self._undo = contextlib.ExitStack()
        self._at_fault: dict[int, Snapshot] | None = None
        self._lock = threading.Lock()
        self._meetings = Meetings(size)
        self._answers: dict[int, MeetingAnswer] = {}
        self._answered = threading.Condition()
        self._began_s = 0.0
        self._has_ended = False

    def start(self) -> None:
        """Start a thread for each rank."""
        from harness.ranks.threads.generators import by_thread

        if isinstance(threading.current_thread(), RankThread):
            raise RuntimeError("a thread rank cannot start thread ranks")  # noqa: TRY004
        self.groups.install()
        self._undo.enter_context(by_thread())
        self._undo.enter_context(where.answering_from(self))
        self._began_s = now()
        for thread in self.threads:
            thread.start()

    def wait(self, limit_s: float, deadlock_s: float) -> tuple[RankReport, ...]:
        """Wait until all ranks have ended, or end them; return their reports.

        Args:
            limit_s: time limit for the bodies, in seconds from the start.
            deadlock_s: for how long the world must look stuck; 0 turns deadlock detection off.
        """
        body, watch = Deadline(self._began_s + limit_s), _Watch(self, deadlock_s)
        suspensions = SuspensionDetector()
        while self.running() and self._at_fault is None:
            tick = Deadline.after(SuspensionDetector.TICK_S)
            self._await_end_of_rank(body.sooner(watch.deadline).sooner(tick))
            if not self.running():
                break
            is_due = body.expired or watch.deadline.expired
            if suspended_s := suspensions.suspended_s():  # by Ctrl-Z, threads included
                body = body.later(suspended_s)
                watch.reset()
            elif not is_due:
                continue
            elif body.expired:
                self._blame(TimedOut(Phase.BODY, limit_s))
            elif watch.is_stuck(body.remaining_s() or 0.0):
                self._blame(Deadlocked(now() - self._began_s))
        self.end()
        return self.reports()

    def reports(self) -> tuple[RankReport, ...]:
        """Return all that is known about the ranks by now."""
        snapshots = self._at_fault or {}
        return tuple(_report(thread, snapshots.get(thread.rank)) for thread in self.threads)

    def meet(self, rank: int, label: str, value: str = "") -> tuple[str, ...]:
        """Wait until all ranks call this; return the value of each; see `RankPipe.meet`."""
        with self._answered:
            self._answers.pop(rank, None)  # left by a meeting that an exception interrupted
            self._deliver(self._meetings.arrive(rank, label, value))
            with registered(Waiting("meeting", label), lambda: rank in self._answers):
                self._answered.wait_for(lambda: rank in self._answers)
            answer = self._answers.pop(rank)
        if answer.error:
            raise PeerLeftError(answer.error)
        return answer.all_values

    def leave_meetings(self, rank: int) -> None:
        """Record that a rank will not arrive at any more meetings."""
        with self._answered:
            self._deliver(self._meetings.leave(rank))

    def _deliver(self, answers: dict[int, MeetingAnswer]) -> None:
        self._answers.update(answers)
        self._answered.notify_all()

    def release_ranks(self) -> None:
        """Record where every rank is, then release those that wait for other ranks."""
        with self._lock:
            if self._at_fault is None:
                self._at_fault = self.snapshots()
        self.groups.release()
        with self._answered:
            self._deliver(self._meetings.cancel("the test is ending"))

    def end(self) -> None:
        """End the threads that still run, as far as possible; a second call does nothing."""
        if self._has_ended:
            return
        self._has_ended = True
        if self.running():
            self.release_ranks()
            self._await_all(Deadline.after(_PEER_GRACE_S))
        for thread in self.running():
            _interrupt(thread)
        self._await_all(Deadline.after(_END_GRACE_S))
        self.groups.uninstall()
        self._undo.close()

    def status_text(self, limit_s: float) -> str:
        """Return where every rank is, as text; the status thread calls this."""
        taken = self.snapshots()
        return table([_position(thread, taken[thread.rank]) for thread in self.threads])

    def snapshots(self) -> dict[int, Snapshot]:
        """Return a snapshot of every rank."""
        groups = dict(self.groups.ledger.groups)
        return {t.rank: replace(self._snapshot(t), groups=groups) for t in self.threads}

    def _snapshot(self, thread: RankThread) -> Snapshot:
        # The order matters. A rank records its call before it registers its wait. Reading the wait
        # first ensures that the call of every wait in a snapshot is recorded in it.
        waiting = wait_of(thread)
        return take_of_thread(thread, self.groups.ledger.history(thread.rank), waiting)

    def running(self) -> list[RankThread]:
        return [thread for thread in self.threads if thread.is_alive() and not thread.done]

    def _blame(self, outcome: TimedOut | Deadlocked) -> None:
        for thread in self.running():
            thread.blame(outcome)
        self.release_ranks()

    def _await_all(self, deadline: Deadline) -> None:
        while self.running() and not deadline.expired:
            self._await_end_of_rank(deadline)

    def _await_end_of_rank(self, deadline: Deadline) -> None:
        """Wait until a rank has ended, or the deadline."""
        try:
            self.ended.get(timeout=deadline.remaining_s())
        except queue.Empty:
            return


class _Watch:
    """Detects a deadlock: two looks, the confirmation time apart, find the same stuck state."""

    def __init__(self, world: ThreadWorld, confirm_s: float) -> None:
        self._world = world
        self._confirm_s = confirm_s
        self._last: dict[int, Snapshot] = {}
        self.deadline = Deadline.after(confirm_s) if confirm_s else NEVER

    def reset(self) -> None:
        """Start over, since this process was stopped."""
        self._last = {}
        self.deadline = Deadline.after(self._confirm_s) if self._confirm_s else NEVER

    def is_stuck(self, remaining_s: float) -> bool:
        """Look if it is due; return True once the world is certainly stuck.

        Args:
            remaining_s: seconds until the test times out anyway.
        """
        if not self.deadline.expired:
            return False
        self.deadline = Deadline.after(self._confirm_s)
        running = {thread.rank for thread in self._world.running()}
        seen = self._world.snapshots()
        living = {rank: snapshot for rank, snapshot in seen.items() if rank in running}
        finished = {rank: snapshot for rank, snapshot in seen.items() if rank not in running}
        stuck = deadlock.is_stuck(living, finished, len(seen), remaining_s)
        confirmed = stuck and deadlock.has_not_moved(self._last, living, self._confirm_s)
        self._last = living if stuck else {}
        return confirmed


def _position(thread: RankThread, snapshot: Snapshot) -> Position:
    if thread.done and thread.outcome is not None:
        return Position(f"rank {thread.rank}", state(thread.outcome))
    progress = thread.progress
    return position_of_rank(thread.rank, progress.phase, progress.since_s, snapshot)


def _report(thread: RankThread, snapshot: Snapshot | None) -> RankReport:
    outcome = thread.outcome or Ended()
    evidence = Evidence(snapshot=snapshot)
    return RankReport(
        thread.rank,
        outcome,
        thread.at_s or now(),
        evidence=evidence,
        communication=thread.communication,
    )


def _interrupt(thread: threading.Thread) -> None:
    """Raise RankEnded in the thread as soon as it runs Python code again."""
    identity = ctypes.c_ulong(thread.ident or 0)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(identity, ctypes.py_object(RankEnded))
