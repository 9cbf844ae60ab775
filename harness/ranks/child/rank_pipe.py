"""The rank's end of the channel to its parent."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from typing import TypeVar

from harness.diagnosis import snapshot
from harness.diagnosis.waits import registered
from harness.model import settings
from harness.model.clock import NEVER, Deadline
from harness.model.errors import PeerLeftError
from harness.model.evidence import Snapshot, Waiting
from harness.model.example import Example, Remarks
from harness.model.expectation import Expectation
from harness.model.outcome import (
    Passed,
    Problem,
    Raised,
    ReportedOutcome,
    Skipped,
    is_worse,
)
from harness.model.spec import LaunchSpec
from harness.model.timeline import EXIT, SET_UP
from harness.model.warning_data import IssuedWarning
from harness.ranks import this_rank
from harness.ranks.channel import FrameWriter
from harness.ranks.child import listener, torch_state
from harness.ranks.descriptors import OwnDescriptor, lost_descriptors_message
from harness.ranks.messages import (
    AtMeeting,
    Exits,
    FromRank,
    Goodbye,
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
    ToRank,
    Waits,
    WaitsForExample,
    WarningShown,
)
from harness.ranks.problems import problem_of
from harness.ranks.process_exit import PATIENCE_S, leave_if_fork_of
from harness.ranks.progress import Progress
from harness.ranks.typed_message import frame

_Order = TypeVar("_Order", bound=ToRank)


class RankPipe:
    """The rank's end of the channel; the `pipe` that the `_run` and `run_test` hooks are given.

    Attributes:
        progress: the phases of the current test.
        stays: whether the rank may be reused for another test.
        outcome: the reported outcome of the current test or example; None before the report.
        example: the example that the body runs; None if the test has none.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._channel = OwnDescriptor(connection.fileno(), "the rank's channel to its parent")
        self._writer = FrameWriter(connection.fileno())
        self._orders: listener.Orders | None = None
        self._pid = os.getpid()
        self._held = b""
        self._meetings = 0
        self._keeps_time = False
        self._waits_to_leave = False
        self._sending = threading.Lock()
        self._warnings: deque[bytes] = deque()
        self.progress = Progress()
        self.stays = False
        self.outcome: ReportedOutcome | None = None
        self.example: Example | None = None

    def begin(self, stays: bool) -> None:
        """Reset the state of the last test, since another one begins."""
        this_rank.set_for_process(self)
        self.stays, self.outcome = stays, None
        self.example = None
        self._meetings = 0
        self._waits_to_leave = False
        self._keeps_time, self.progress = False, Progress()
        self.enter(SET_UP)

    def keep_time(self) -> None:
        """Report every phase when it begins from now on, since a rank may die in any of them."""
        self._keeps_time = True
        self._tell_phase()

    def enter(self, phase: str) -> None:
        """Enter the next phase of the test."""
        if self.progress.enter(phase) and self._keeps_time:
            self._tell_phase()

    def _tell_phase(self) -> None:
        progress = self.progress
        self._send(PhaseBegun(progress.phase, progress.since_s))

    def hello(self) -> None:
        """Send Ready: the class is found and the body is about to start.

        A reused rank does not send it again.
        """
        snapshot.begin()
        if self._orders is None:
            fd = self._connection.fileno()
            self._orders = listener.start(
                fd, self._send, lambda: self.progress, self._end_if_cut_off
            )
            self._send(Ready())

    def report(self, outcome: ReportedOutcome) -> None:
        """Report the outcome of the body. The first report counts, or the first bad one."""
        leave_if_fork_of(self._pid, 0 if isinstance(outcome, Passed | Skipped) else 1)
        if self.outcome is None or is_worse(outcome, self.outcome):
            self.outcome = outcome
            self.enter(EXIT)
            is_good = isinstance(outcome, Passed | Skipped)
            self._waits_to_leave = is_good and self._has_groups_to_destroy()
            message = self._report(outcome, is_good)
            if is_good and not self._waits_to_leave and self.goes_on:
                # Nothing that could hang follows, so send the report with the next message.
                self._held = frame(message)
            else:
                self._send(message)

    @staticmethod
    def _has_groups_to_destroy() -> bool:
        return settings.WAIT_FOR_PEERS in settings.TUNING.value() and bool(torch_state.groups())

    def await_peers(self) -> None:
        """Wait until no peer needs this rank's connections any more; see `leave_gate`."""
        if self._waits_to_leave:
            self._waits_to_leave = False
            with contextlib.suppress(queue.Empty):
                self._await(MayLeave, PATIENCE_S)

    def _report(self, outcome: ReportedOutcome, is_good: bool) -> Report:
        if is_good and self.example is not None:
            taken = None  # its process group closes now, which ends its peers' waits
        elif is_good and self.stays:
            # The parent can request the rest later, if peers turn out to wait for this rank.
            taken = _taken(snapshot.take_groups)
        else:
            taken = _taken(partial(snapshot.take, with_frames=not is_good))
        spans = listener.spans(settled=is_good) if self._keeps_time else ()
        return Report(outcome, self._waits_to_leave, taken, spans)

    def leaving(self, request: SystemExit) -> None:
        """Report where sys.exit() was called, unless an outcome has been reported."""
        if self.outcome is None:
            self.enter(EXIT)
            place = problem_of((SystemExit, request, request.__traceback__)).where
            self._send(Exits(place))

    def meet(self, label: str, value: str = "") -> tuple[str, ...]:
        """Wait until all ranks call this; return the value of each, by rank.

        Args:
            label: the meeting's name, equal on every rank; a report of a hang shows it.
            value: this rank's value.

        Raises:
            PeerLeftError: if a rank has ended its test, or has arrived at another meeting.
        """
        number, self._meetings = self._meetings, self._meetings + 1
        with registered(Waiting("meeting", label), self._has_order):
            self._send(AtMeeting(label, value))
            answer = self._await(MeetingAnswer)
            while answer.number != number:  # for a meeting that a signal handler has interrupted
                answer = self._await(MeetingAnswer)
        if answer.error:
            raise PeerLeftError(answer.error)
        return answer.all_values

    def _has_order(self) -> bool:
        return self._orders is not None and not self._orders.empty()

    def take_terminal(self) -> None:
        """Wait until this rank has the parent's terminal. Raises RuntimeError if it cannot."""
        self._send(TerminalRequest(True))
        error = self._await(TerminalAnswer).error
        if error:
            raise RuntimeError(f"breakpoint(): {error}")

    def give_terminal_back(self) -> None:
        """Give the terminal back to the parent."""
        self._send(TerminalRequest(False))

    def report_expectation(self, expectation: Expectation) -> None:
        """Report a text that the body has produced in accept mode."""
        self._send(TextProduced(expectation))

    def tell_warning(self, issued: IssuedWarning) -> None:
        """Report a warning that the filters show.

        Python warns in the middle of anything, of sending too (when it collects garbage, or handles
        a signal), so nothing is waited for here: what cannot be sent goes with the next message.
        """
        self._warnings.append(frame(WarningShown(issued)))
        if os.getpid() == self._pid and self._sending.acquire(blocking=False):
            try:
                self._send_frames(b"")
            finally:
                self._sending.release()

    def sabotage(self, deed: str) -> None:
        """Report that the test is about to "kill" or "stop" this rank on purpose."""
        self._send(Sabotage(deed))

    def _await(self, kind: type[_Order], limit_s: float | None = None) -> _Order:
        """Wait until the parent sends a message of this kind, and return it.

        If the parent has gone, exit this process.

        Raises:
            queue.Empty: if none arrives in time.
        """
        limit = NEVER if limit_s is None else Deadline.after(limit_s)
        while (order := self._next_order(limit)) is not None:
            if isinstance(order, kind):
                return order
        raise PeerLeftError("the parent has gone")

    @property
    def goes_on(self) -> bool:
        """Whether this process runs another test or example after the current body."""
        return self.stays or self.example is not None

    def _next_order(self, limit: Deadline = NEVER) -> ToRank | None:
        """Wait for the parent's next message; return None if the parent has gone.

        This is the one place where a rank waits for its parent. It mostly has no deadline of its
        own: the parent has one for whatever the rank does, and if the parent goes, the kernel ends
        this process (`child_lifeline`).

        Raises:
            queue.Empty: at the limit.
        """
        leave_if_fork_of(self._pid, 1)
        assert self._orders is not None
        return self._orders.get(timeout=limit.remaining_s())

    @property
    def may_stay(self) -> bool:
        """Whether the test ended so that another may follow in this process."""
        return self.stays and isinstance(self.outcome, Passed | Skipped)

    def park(self, left: list[str], is_clean: bool, imported: tuple[str, ...]) -> None:
        """Send Waits: the process group is closed or kept, and the rank is idle.

        Args:
            left: what the test has left behind, as text.
            is_clean: whether another test may follow.
            imported: the modules that the test has imported.
        """
        self._send(Waits(tuple(left), is_clean, torch_state.positions(), imported))

    def await_examples(self) -> None:
        """Send Waits for the first example of a property test."""
        self.outcome = Passed()
        self._send(self._report(self.outcome, is_good=True))
        self.end_example()

    def next_example(self) -> RunExample | None:
        """Wait for the next example; None if there are no more.

        Raises:
            SystemExit: if the rank must exit.
        """
        while (order := self._next_order()) is not None and not isinstance(order, Leave):
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
        snapshot.begin()

    def end_example(self) -> None:
        """Send Waits for the next example: the process group is closed or kept."""
        remarks = Remarks() if self.example is None else self.example.remarks
        self._send(WaitsForExample(torch_state.positions(), remarks))

    def next_spec(self) -> LaunchSpec | None:
        """Wait for the next test; return None if the rank must exit."""
        while (order := self._next_order()) is not None and not isinstance(order, Leave):
            if isinstance(order, RunTest):
                return order.spec
            # Other messages are answers that the last test did not wait for.
        return None

    def goodbye(self, imported: tuple[str, ...]) -> None:
        """Send Goodbye: the process group is closed and exit handlers have run."""
        self._send(Goodbye(imported))

    def send(self, text: object) -> None:
        """Accept a traceback as text, as tests for PyTorch's harness send it."""
        message = str(text)
        self.report(Raised((Problem("Exception", message, message, is_assertion=False),)))

    def close(self) -> None:
        """Do nothing: PyTorch's harness closes the pipe after the body; here it stays open."""

    def _send(self, message: FromRank) -> None:
        if os.getpid() != self._pid:
            return  # a fork that the test has made is not the rank
        # The lock excludes the listener's answers. Errors are ignored: without a parent, the kernel
        # ends this process.
        with self._sending:
            self._send_frames(frame(message))

    def _send_frames(self, frames: bytes) -> None:
        held, self._held = self._held, b""
        while self._warnings:
            held += self._warnings.popleft()
        self._end_if_cut_off()
        with contextlib.suppress(OSError):
            self._writer.send_frame(held + frames)

    def _end_if_cut_off(self) -> None:
        """End this process, with a message on stderr, if the test has closed the channel."""
        if not self._channel.is_intact:
            with contextlib.suppress(OSError):  # the test has closed stderr, too
                os.write(2, f"{lost_descriptors_message([self._channel])}\n".encode())
            os._exit(1)


def _taken(take: Callable[[], Snapshot]) -> Snapshot | None:
    """Return a snapshot, since peers may wait for collectives that this rank never called."""
    try:
        return take()
    except Exception:  # a test may have replaced anything we look at
        return None
