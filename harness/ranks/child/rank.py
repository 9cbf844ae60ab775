"""The one object that holds what this process is as a rank."""

from __future__ import annotations

import contextlib
import os
import queue
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection

from harness.diagnosis import snapshot
from harness.diagnosis.waits import registered
from harness.model import settings
from harness.model.communication import OFF
from harness.model.errors import PeerLeftError
from harness.model.evidence import Snapshot, Waiting
from harness.model.example import Example, Remarks
from harness.model.expectation import Expectation
from harness.model.outcome import Passed, Problem, Raised, ReportedOutcome, Skipped, is_worse
from harness.model.phase import Phase
from harness.model.spec import LaunchSpec
from harness.ranks.call_recorder import CallRecorder
from harness.ranks.child import listener
from harness.ranks.child.audit import Audit
from harness.ranks.child.between_tests import StateCheck
from harness.ranks.child.kept_group import RankGroups, positions
from harness.ranks.child.rank_pipe import RankPipe
from harness.ranks.messages import (
    AtMeeting,
    Exits,
    Leave,
    MayLeave,
    MeetingAnswer,
    NoMoreExamples,
    PhaseBegun,
    Ready,
    Report,
    RunExample,
    RunTest,
    Sabotage,
    TerminalAnswer,
    TerminalRequest,
    TextProduced,
    Waits,
    WaitsForExample,
)
from harness.ranks.problems import problem_of
from harness.ranks.process_exit import MAY_LEAVE_WAIT_S, leave_if_fork_of
from harness.ranks.progress import Progress
from harness.ranks.rank_store import RankStore


class Rank:
    """A rank: `main` makes it once, and every test of this process runs with it.

    PyTorch's hooks `_run` and `run_test` get it as `parent_pipe`. Code that is not given it finds
    it by `this_rank`.

    Args:
        number: the rank.
        connection: the channel to the parent.

    Attributes:
        pipe: the channel to the parent.
        store: the stores of its tests.
        groups: its process groups.
        state: checks that a test leaves no state behind.
        local_rank: its number among the ranks of its host.
        progress: the phases of the current test.
        stays: whether the rank may be reused for another test.
        outcome: the reported outcome of the current test or example; None before the report.
        example: the example that the body runs; None if the test has none.
        since_ns: when the current test or example began; snapshots ignore what was before.
    """

    def __init__(self, number: int, connection: Connection) -> None:
        self.number = self.local_rank = number
        self.pipe = RankPipe(connection)
        self.store = RankStore()
        self.groups = RankGroups(self.store)
        self.state = StateCheck(self.groups)
        self._pid = os.getpid()
        self._is_up = False
        self._audit_level = OFF
        self._reset(stays=False)

    def _reset(self, *, stays: bool) -> None:
        self.progress = Progress()
        self.stays = stays
        self.outcome: ReportedOutcome | None = None
        self.example: Example | None = None
        self.since_ns = 0
        self._audit = Audit()
        self._meetings = 0
        self._keeps_time = self._waits_to_leave = False

    # The phases of a test

    def begin_test(self, spec: LaunchSpec) -> None:
        """Forget the last test, since another one begins."""
        self._reset(stays=spec.stays)
        self._audit_level = spec.audit
        self.enter(Phase.SET_UP)

    def keep_time(self) -> None:
        """Report every phase when it begins from now on, since a rank may die in any of them."""
        self._keeps_time = True
        self._send_phase()

    def enter(self, phase: Phase) -> None:
        """Enter the next phase of the test."""
        if self.progress.enter(phase) and self._keeps_time:
            self._send_phase()

    def _send_phase(self) -> None:
        self.pipe.send(PhaseBegun(self.progress.phase, self.progress.since_s))

    def begin_body(self) -> None:
        """Send Ready before the first test: the class is found and the body is about to start."""
        self.since_ns = time.time_ns()
        self._audit = Audit(self._audit_level)
        if not self._is_up:
            self._is_up = True
            listener.start(self)
            self.pipe.send(Ready())

    # The outcome of a test or an example

    def report(self, outcome: ReportedOutcome) -> None:
        """Report the outcome of the body. The first report counts, or the first bad one."""
        leave_if_fork_of(self._pid, 0 if isinstance(outcome, Passed | Skipped) else 1)
        if self.outcome is None or is_worse(outcome, self.outcome):
            self.outcome = outcome
            self.enter(Phase.EXIT)
            is_good = isinstance(outcome, Passed | Skipped)
            self._waits_to_leave = is_good and self._has_groups_to_destroy()
            message = self._report(outcome, is_good)
            if is_good and not self._waits_to_leave and self.goes_on:
                self.pipe.send_with_next(message)
            else:
                self.pipe.send(message)

    def _has_groups_to_destroy(self) -> bool:
        return settings.WAIT_FOR_PEERS in settings.TUNING.value() and bool(self.groups.left())

    def _report(self, outcome: ReportedOutcome, is_good: bool) -> Report:
        # Peers may wait for collectives that this rank never called.
        take = partial(self.take_snapshot, with_frames=not is_good)
        if is_good and self.stays:
            take = partial(snapshot.take_groups)  # the parent can request the rest later
        # After a good example, the process group closes, which ends its peers' waits.
        taken = None if is_good and self.example is not None else listener.attempt(take, None)
        spans = listener.spans(self.since_ns, all_completed=is_good) if self._keeps_time else ()
        communication = self._audit.end()
        if not isinstance(outcome, Passed):
            communication = None
        return Report(outcome, self._waits_to_leave, taken, spans, communication)

    def take_snapshot(self, *, with_frames: bool) -> Snapshot:
        """Return a snapshot of this process, with what the audit knows of its collectives."""
        taken = snapshot.take(self.since_ns, with_frames=with_frames)
        return taken if self.calls is None else self.calls.with_details(taken)

    def report_exit(self, request: SystemExit) -> None:
        """Report where sys.exit() was called, unless an outcome has been reported."""
        if self.outcome is None:
            self.enter(Phase.EXIT)
            place = problem_of((SystemExit, request, request.__traceback__)).where
            self.pipe.send(Exits(place))

    def await_peers(self) -> None:
        """Wait until no peer needs this rank's connections any more; see `leave_gate`."""
        if self._waits_to_leave:
            self._waits_to_leave = False
            with contextlib.suppress(queue.Empty):
                self.pipe.wait_for(MayLeave, MAY_LEAVE_WAIT_S)

    @property
    def goes_on(self) -> bool:
        """Whether this process runs another test or example after the current body."""
        return self.stays or self.example is not None

    @property
    def may_stay(self) -> bool:
        """Whether the test ended so that another may follow in this process."""
        return self.stays and isinstance(self.outcome, Passed | Skipped)

    # What comes after it

    def next_spec(self, imported: tuple[str, ...]) -> LaunchSpec | None:
        """Say what the test has left behind, and wait for the next; None if the rank must exit.

        Args:
            imported: the modules that the test has imported.
        """
        left = self.state.end_test()
        self.pipe.send(Waits(tuple(left.texts()), not left, positions(), imported))
        while (order := self.pipe.next_order()) is not None and not isinstance(order, Leave):
            if isinstance(order, RunTest):
                return order.spec
            # Other messages are answers that the last test did not wait for.
        return None

    # Examples of a property test

    def await_examples(self) -> None:
        """Ask for the first example of a property test."""
        self.outcome = Passed()
        self.pipe.send(self._report(self.outcome, is_good=True))
        self.end_example()

    def next_example(self) -> RunExample | None:
        """Wait for the next example; None if there are no more.

        Raises:
            SystemExit: if the rank must exit.
        """
        while (order := self.pipe.next_order()) is not None and not isinstance(order, Leave):
            if isinstance(order, RunExample):
                self._begin_example(order)
                return order
            if isinstance(order, NoMoreExamples):
                self.outcome = self.example = None
                return None
            # Other messages are answers that the last example did not wait for.
        self.stays = False  # otherwise the rank would wait for another test
        raise SystemExit(0)

    def _begin_example(self, order: RunExample) -> None:
        self.outcome, self._meetings = None, 0
        values = order.values
        if values is None:
            with open(order.values_file, "rb") as file:
                values = file.read()
        self.example = Example(values, order.wants_notes)
        self.since_ns = time.time_ns()
        self._audit = Audit(self._audit_level)

    def end_example(self) -> None:
        """Ask for the next example: the process group is closed or kept."""
        remarks = Remarks() if self.example is None else self.example.remarks
        self.pipe.send(WaitsForExample(positions(), remarks))

    # For code that runs in the body

    def meet(self, label: str, value: str = "") -> tuple[str, ...]:
        """Wait until all ranks call this; return the value of each, by rank.

        Args:
            label: the meeting's name, equal on every rank; a report of a hang shows it.
            value: this rank's value.

        Raises:
            PeerLeftError: if a rank has ended its test, or has arrived at another meeting.
        """
        number, self._meetings = self._meetings, self._meetings + 1
        with registered(Waiting("meeting", label), lambda: not self.pipe.orders.empty()):
            self.pipe.send(AtMeeting(label, value))
            answer = self.pipe.wait_for(MeetingAnswer)
            while answer.number != number:  # for a meeting that a signal handler has interrupted
                answer = self.pipe.wait_for(MeetingAnswer)
        if answer.error:
            raise PeerLeftError(answer.error)
        return answer.all_values

    @property
    def calls(self) -> CallRecorder | None:
        """Records what the rank communicates; None if it does not."""
        return self._audit.calls

    def exempt_calls(self, begins: bool) -> None:
        """Begin or end a part of the test whose calls the audit leaves out."""
        self._audit.exempt(begins)

    def bring_up_group(self, isolation: str, key: object, make: Callable[[], None]) -> None:
        """Set up the default process group: reuse a kept one if isolation and key allow it."""
        self.groups.bring_up(isolation, key, make)

    def leave_group(self, *, exits: bool) -> None:
        """Destroy the process groups, unless the next test reuses the default one."""
        self.groups.destroy_others(exits=exits)

    def note_environment(self) -> None:
        """Record the environment again: the class, not the test, has changed it so far."""
        self.state.note_environment()

    def take_terminal(self) -> None:
        """Wait until this rank has the parent's terminal. Raises RuntimeError if it cannot."""
        self.pipe.send(TerminalRequest(True))
        error = self.pipe.wait_for(TerminalAnswer).error
        if error:
            raise RuntimeError(f"breakpoint(): {error}")

    def give_terminal_back(self) -> None:
        """Give the terminal back to the parent."""
        self.pipe.send(TerminalRequest(False))

    def report_expectation(self, expectation: Expectation) -> None:
        """Report a text that the body has produced in accept mode."""
        self.pipe.send(TextProduced(expectation))

    def report_sabotage(self, deed: str) -> None:
        """Report that the test is about to "kill" or "stop" this rank on purpose."""
        self.pipe.send(Sabotage(deed))

    # The pipe of PyTorch's harness

    def send(self, text: object) -> None:
        """Accept a traceback as text, as tests for PyTorch's harness send it."""
        message = str(text)
        self.report(Raised((Problem("Exception", message, message, is_assertion=False),)))

    def close(self) -> None:
        """Do nothing: PyTorch's harness closes the pipe after the body; here it stays open."""
