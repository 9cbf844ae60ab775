"""Watch the ranks of one test until each has an outcome.

One loop waits for all channels, all exits and the next deadline at once; it does not poll the
ranks. The first fault, or an expired deadline, begins the end of the test: the supervisor asks all
ranks what they are doing, and waits for a short grace period in which peers may report outcomes of
their own. Then it ends the ranks that still run.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from harness.model.clock import NEVER, Deadline, SuspensionDetector, now
from harness.model.outcome import Deadlocked, Ended, Lost, Passed, Sabotaged, Skipped, TimedOut
from harness.model.phase import WAITING, Phase
from harness.model.rank_report import RankReport
from harness.model.verdict import ExitRule, is_echo
from harness.ranks.descriptors import readable
from harness.ranks.handle import RankHandle
from harness.ranks.messages import MeetingAnswer, TerminalAnswer
from harness.ranks.typed_message import frame
from harness.ranks.watch import where
from harness.ranks.watch.deadlock_watch import DeadlockWatch
from harness.ranks.watch.evidence import EvidenceCollector
from harness.ranks.watch.leave_gate import LeaveGate
from harness.ranks.watch.meetings import Meetings
from harness.ranks.watch.terminal import Terminal
from harness.ranks.watch.watched_rank import WatchedRank, are_in_sync
from harness.ranks.watch.where_answers import StatusRequests
from harness.ranks.world import TERM_GRACE_S, World

# After the first fault, peers usually fail for the same reason within milliseconds, and their own
# error says more than "still running". Each failing test takes this much longer, so it is short.
PEER_GRACE_S = 0.2
# A rank can report "connection closed by peer" before the parent sees that the peer died, above all
# where another process reports the death. Without this wait, the echo would be taken for the cause.
ECHO_GRACE_S = 2.0
# After a timeout or a deadlock, a rank on a busy machine may need time to send its snapshot. Once
# all ranks have answered, the supervisor waits no longer.
ANSWER_GRACE_S = 2.0


_SETTLED = (Phase.GONE, *WAITING)
_BEFORE_THE_END = (Phase.START, Phase.BODY)


@dataclass(frozen=True)
class Limits:
    """How long each phase of a test may take, in seconds.

    Attributes:
        start_s, body_s, exit_s: for all ranks to start, to run the body, and to exit.
        deadlock_s: seconds for which a world must look stuck; 0 turns deadlock detection off.
        faulty_stay: whether ranks whose body failed may be reused, if all ranks finish.
        deep: whether to get native stacks of ranks that hang, which takes about a second.
    """

    start_s: float
    body_s: float
    exit_s: float
    deadlock_s: float = 0.0
    faulty_stay: bool = False
    deep: bool = True


# States of the whole test (those of one rank are in `watched_rank`):
#
#   starting   _start set                  a rank has not sent Ready
#   running    _body set                   all ranks are up
#   exiting    _exit set                   all bodies are done, processes exit
#   paused     _paused_s set               a debugger has the terminal; no deadline counts
#   ending     _end set                    a fault, a timeout or a deadlock; see below
#   settled    no rank in `_unsettled()`   run() returns
#
# starting, running, exiting -> ending:
#   - fault in a rank: `_begin_grace`, PEER_GRACE_S (ECHO_GRACE_S if all faults are echoes);
#   - expired deadline or deadlock: `_settle_phase`, ANSWER_GRACE_S.
# ending -> settled: all ranks have gone, or the grace is over (`_settle_rest`).
# Ranks of property tests (`faulty_stay`) get the grace period twice: they are asked for snapshots
# only once it is clear that they do not finish by themselves.


class Supervisor:
    """Run one world to its end and report every rank.

    Attributes:
        ranks: the ranks, in order.
    """

    def __init__(self, world: World, limits: Limits, rule: ExitRule) -> None:
        self._world = world
        self._limits = limits
        self._rule = rule
        self.ranks = [WatchedRank(handle) for handle in world.handles]
        self._evidence = EvidenceCollector(self.ranks, world)
        self._status_requests = StatusRequests(self.ranks)
        self._watch = DeadlockWatch(self.ranks, self._evidence, limits.deadlock_s)
        self._start = Deadline.after(limits.start_s)
        self._body = NEVER
        self._body_began_s = now()
        self._exit = NEVER
        self._meetings = Meetings(len(self.ranks))
        self._gate = LeaveGate(self.ranks)
        self._terminal = Terminal()
        self._paused_s: float | None = None
        self._suspensions = SuspensionDetector()
        self._end: Deadline | None = None
        # Whether all faults so far are echoes, so that the cause must still arrive.
        self._awaits_cause = False
        self._round: int | None = None

    def run(self) -> tuple[RankReport, ...]:
        """Wait for all outcomes and return the reports.

        When this returns or raises, no rank runs any more, unless all of them are idle: they wait
        for another test or another example.
        """
        self._set_deadlines()  # reused ranks are up already
        try:
            with (
                contextlib.closing(self._status_requests),
                where.answering_from(self._status_requests),
            ):
                self._run_until_settled()
            if self._end is not None:
                self._evidence.inspect_from_outside(deep=self._is_hang and self._limits.deep)
        finally:
            for rank in self.ranks:
                self._terminal.leave(rank.rank)
            awaited = self._what_all_await()
            self._world.is_idle = awaited is Phase.BETWEEN_TESTS
            self._world.awaits_example = awaited is Phase.BETWEEN_EXAMPLES
            stuck = self._world.end(TERM_GRACE_S) if awaited is None else []
            self._world.end_output()  # so that the reports include the last output
        self._world.is_clean = are_in_sync(self.ranks) and all(rank.is_clean for rank in self.ranks)
        self._settle_survivors(stuck)
        return self.reports()

    def _run_until_settled(self) -> None:
        while self._unsettled():
            ready = self._wait()
            self._handle_ready(ready)
            self._status_requests.advance(ready)
            self._advance()
            self._gate.advance(is_ending=self._end is not None)

    def reports(self) -> tuple[RankReport, ...]:
        """Return a report on each rank, as of now."""
        return self._evidence.reports()

    def _what_all_await(self) -> Phase | None:
        """Return the phase in which all ranks wait for the parent; None if the world must end."""
        phases = {rank.phase for rank in self.ranks}
        may_stay = self._end is None or (self._limits.faulty_stay and not self._is_hang)
        if len(phases) == 1 and may_stay and not any(map(self._has_died, self.ranks)):
            (phase,) = phases
            return phase if phase in WAITING else None
        for rank in filter(self._has_died, self.ranks):
            rank.settle_by_exit(rank.handle.exit_code or 0)
        return None

    @staticmethod
    def _has_died(rank: WatchedRank) -> bool:
        return rank.phase in WAITING and not rank.alive

    def _unsettled(self) -> list[WatchedRank]:
        return [rank for rank in self.ranks if rank.phase not in _SETTLED]

    def _wait(self) -> set[int]:
        """Wait for input or the next deadline; return the descriptors that are readable."""
        handles = [rank.handle for rank in self._unsettled()]
        fds = [fd for handle in handles for fd in handle.open_fds]
        soonest = self._next().sooner(self._status_requests.deadline).sooner(self._gate.deadline)
        soonest = soonest.sooner(Deadline.after(SuspensionDetector.TICK_S))
        ready = readable([*fds, *self._status_requests.fds], soonest)
        # TICK_S bounds the wait, so that a longer one means that this process was stopped (Ctrl-Z).
        self._was_stopped()
        for handle in self._world.handles:
            handle.pass_on_output()
        return ready

    def _was_stopped(self) -> bool:
        """Return whether this process was stopped since the last call; postpone all deadlines."""
        seconds = self._suspensions.suspended_s()
        if not seconds:
            return False
        self._start = self._start.later(seconds)
        self._body = self._body.later(seconds)
        self._exit = self._exit.later(seconds)
        if self._end is not None:
            self._end = self._end.later(seconds)
        self._watch.reset()
        return True

    def _next(self) -> Deadline:
        """Return the next deadline."""
        if self._end is not None:
            return self._end
        if self._paused_s is not None:
            return NEVER
        return self._start.sooner(self._body).sooner(self._exit).sooner(self._watch.deadline)

    def _handle_ready(self, ready: set[int]) -> None:
        """Handle the messages of ranks, and the exits."""
        has_progressed = False
        for rank in self._unsettled():
            if ready.isdisjoint(rank.handle.open_fds):
                continue
            has_progressed = rank.handle_messages() or has_progressed
            code = rank.handle.exit_code if rank.handle.exit_fd in ready else None
            if code is not None:
                rank.handle_messages()  # those that arrived between the last read and the exit
                rank.settle_by_exit(code)
                has_progressed = True
            self._advance_meetings(rank)
            self._update_terminal(rank)
        if has_progressed:
            self._watch.reset()

    def _advance_meetings(self, rank: WatchedRank) -> None:
        """Record the rank's arrivals at meetings, and send the answers that are due."""
        answers: dict[int, MeetingAnswer] = {}
        for label, value in rank.arrivals:
            answers.update(self._meetings.arrive(rank.rank, label, value))
        rank.arrivals.clear()
        if rank.phase not in _BEFORE_THE_END:
            answers.update(self._meetings.leave(rank.rank))
        # All ranks usually get the same answer, which can be large: encode it once.
        distinct = {id(answer): answer for answer in answers.values()}
        frames = {key: frame(answer) for key, answer in distinct.items()}
        for receiver, answer in answers.items():
            self.ranks[receiver].handle.order(frames[id(answer)])

    def _advance(self) -> None:
        """Take the next step that the ranks' phases and the clock require."""
        self._settle_stopped()
        if not self._unsettled():
            return  # all are settled; a deadline that expired at the same moment does not count
        if self._end is not None:
            if self._awaits_cause and not self._has_echoes_only():
                self._awaits_cause = False
                self._end = self._end.sooner(Deadline.after(PEER_GRACE_S))
            if self._end.expired and self._round is None:
                self._begin_end(PEER_GRACE_S)  # they will not be reused, so they can be asked now
            elif self._end.expired or (self._is_hang and self._all_have_answered()):
                self._settle_rest()
            return
        self._set_deadlines()
        if self._paused_s is not None:
            return
        if any(self._is_fault(rank) for rank in self.ranks):
            self._begin_grace()
        elif self._start.expired:
            self._settle_phase(Phase.START, TimedOut(Phase.START, self._limits.start_s))
        elif self._body.expired:
            self._settle_phase(Phase.BODY, TimedOut(Phase.BODY, self._limits.body_s))
        elif self._exit.expired:
            self._settle_phase(Phase.EXIT, TimedOut(Phase.EXIT, self._limits.exit_s))
        elif self._watch.is_stuck(self._body.remaining_s() or 0.0):
            self._settle_phase(Phase.BODY, Deadlocked(now() - self._body_began_s))

    def _update_terminal(self, rank: WatchedRank) -> None:
        """Handle the rank's terminal requests; the body's deadline pauses while a rank has it."""
        for wanted in rank.terminal_requests:
            if wanted:
                self._terminal.ask(rank.rank, rank.handle.terminal_group)
            else:
                self._terminal.leave(rank.rank)
        rank.terminal_requests.clear()
        if rank.phase is not Phase.BODY:
            self._terminal.leave(rank.rank)
        while (lent := self._terminal.lend()) is not None:
            receiver, error = lent
            self.ranks[receiver].handle.order(frame(TerminalAnswer(error)))
        if self._terminal.in_use and self._paused_s is None:
            self._paused_s = now()
        elif not self._terminal.in_use and self._paused_s is not None:
            paused_s, self._paused_s = now() - self._paused_s, None
            self._body = self._body.later(paused_s)

    def _settle_stopped(self) -> None:
        """Settle the ranks that @stop_rank has stopped, once all other ranks are settled."""
        left = self._unsettled()
        if all(rank.sabotage == "stop" for rank in left):
            for rank in left:
                rank.settle(Sabotaged("stopped"))
                rank.phase_before_end, rank.phase = rank.phase, Phase.GONE

    def _set_deadlines(self) -> None:
        phases = {rank.phase for rank in self._unsettled()}
        if Phase.START not in phases and self._start is not NEVER:
            self._start, self._body = NEVER, Deadline.after(self._limits.body_s)
            self._body_began_s = now()
        if phases == {Phase.EXIT} and self._exit is NEVER:
            self._body, self._exit = NEVER, Deadline.after(self._limits.exit_s)

    def _is_fault(self, rank: WatchedRank) -> bool:
        known = rank.outcome or rank.reported
        if known is None or isinstance(known, Passed | Skipped | Ended | Sabotaged):
            return False
        return not self._rule.accepts(known)

    def _has_echoes_only(self) -> bool:
        """Whether every fault so far only says that a peer has gone."""
        faults = [rank.outcome or rank.reported for rank in self.ranks if self._is_fault(rank)]
        return all(fault is not None and is_echo(fault) for fault in faults)

    @property
    def _is_hang(self) -> bool:
        return any(isinstance(rank.outcome, TimedOut | Deadlocked) for rank in self.ranks)

    def _settle_phase(self, phase: Phase, outcome: TimedOut | Deadlocked) -> None:
        """Give all ranks in a phase this outcome, then begin the end of the test."""
        if self._was_stopped():
            return  # stopped after the wait: the deadline is in the future again
        blamed = [rank for rank in self._unsettled() if rank.phase is phase]
        # If none were blamed, the verdict would have no fault, and the test could pass.
        assert blamed, f"no rank in phase {phase} for {outcome}"
        for rank in blamed:
            rank.settle(outcome)
        self._begin_end(ANSWER_GRACE_S)

    def _begin_grace(self) -> None:
        """Give the peers of a faulty rank a moment to finish, too."""
        self._awaits_cause = self._has_echoes_only()
        grace_s = ECHO_GRACE_S if self._awaits_cause else PEER_GRACE_S
        if self._limits.faulty_stay:
            # A full snapshot resolves the stack of every collective, which takes up to a second. So
            # ask only ranks that will not run another example.
            self._end = Deadline.after(grace_s)
        else:
            self._begin_end(grace_s)

    def _begin_end(self, grace_s: float) -> None:
        self._end = Deadline.after(grace_s)
        self._round = self._evidence.ask(full=True)

    def _all_have_answered(self) -> bool:
        return self._round is not None and self._evidence.all_have_answered(self._round)

    def _settle_rest(self) -> None:
        """Settle the ranks that still run: by what they have reported, otherwise as ended."""
        for rank in self._unsettled():
            if rank.handle.is_lost:  # its host is lost, which another rank of the host has shown
                rank.settle_by_exit(rank.handle.exit_code or 0)
            elif rank.reported is not None:
                rank.settle(rank.reported, rank.reported_at_s)
            else:
                rank.settle(Ended(rank.phase))
            rank.phase_before_end, rank.phase = rank.phase, Phase.GONE

    def _settle_survivors(self, stuck: list[RankHandle]) -> None:
        for rank in self.ranks:
            if rank.handle in stuck:
                rank.outcome = Lost("the process did not end even after SIGKILL")
