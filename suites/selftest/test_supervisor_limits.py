"""`Supervisor`: time limits of the start, the body and the exit, and deadlocks."""

from __future__ import annotations

import itertools
import signal
from unittest import mock

from harness.model.evidence import Group, Snapshot, ThreadStack, Waiting
from harness.model.outcome import Deadlocked, Ended, Killed, Passed, TimedOut
from harness.ranks.messages import PhaseBegun, Ready, Report, SnapshotRequest
from harness.ranks.watch import supervisor
from suites.selftest.supervised_ranks import (
    BODY_S,
    CALL_S,
    ECHO,
    EXIT_S,
    START_S,
    SupervisorTestCase,
)


class TestDeadlines(SupervisorTestCase):
    def test_of_the_start(self):
        self.begin(ready=False)
        self.say(1, 0, Ready())
        self.assertEqual(self.run_ranks(), [Ended("body"), TimedOut("start", START_S)])
        self.assertEqual(self.clock.elapsed_s, START_S + supervisor.ANSWER_GRACE_S)

    def test_of_the_body_which_begins_when_the_last_rank_is_up(self):
        self.begin(ready=False)
        self.say(1, 0, Ready())
        self.say(8, 1, Ready())
        self.passes(27, 0)
        self.assertEqual(self.run_ranks(), [Passed(), TimedOut("body", BODY_S)])
        self.assertEqual(self.clock.elapsed_s, 8 + BODY_S + supervisor.ANSWER_GRACE_S)

    def test_a_body_in_time(self):
        self.begin(ready=False)
        self.say(9, range(2), Ready())
        for rank in (0, 1):
            self.passes(28, rank)
        self.assertEqual(self.run_ranks(), [Passed(), Passed()])

    def test_of_the_exit(self):
        self.passes(1, 0)
        self.say(1, 1, Report(Passed()))
        self.assertEqual(self.run_ranks(), [Passed(), TimedOut("exit", EXIT_S)])
        self.assertEqual(self.clock.elapsed_s, 1 + EXIT_S + supervisor.ANSWER_GRACE_S)

    def test_of_the_exit_which_begins_when_no_body_runs(self):
        self.say(1, 0, Report(Passed()))
        self.say(15, 1, Report(Passed()))
        self.exit(19, 0)
        self.exit(19, 1)
        self.assertEqual(self.run_ranks(), [Passed(), Passed()])

    def test_the_body_has_no_deadline_once_all_leave(self):
        self.say(19, range(2), Report(Passed()))
        self.exit(23, 0)
        self.exit(23, 1)
        self.assertEqual(self.run_ranks(), [Passed(), Passed()])

    def test_ranks_that_have_all_answered_are_not_waited_for(self):
        self.answers(0)
        self.answers(1)
        self.assertEqual(self.run_ranks(), [TimedOut("body", BODY_S)] * 2)
        self.assertEqual(self.clock.elapsed_s, BODY_S)

    def test_one_that_has_not_answered_is(self):
        self.answers(0)
        self.assertEqual(self.run_ranks(), [TimedOut("body", BODY_S)] * 2)
        self.assertEqual(self.clock.elapsed_s, BODY_S + supervisor.ANSWER_GRACE_S)
        answered = [report.evidence.answered for report in self.supervisor.reports()]
        self.assertEqual(answered, [True, False])

    def test_who_times_out_stays_timed_out(self):
        self.passes(BODY_S + 1, 0)
        self.assertEqual(self.run_ranks(), [TimedOut("body", BODY_S)] * 2)

    def test_all_go_in_the_instant_of_the_deadline(self):
        for rank in (0, 1):
            self.passes(BODY_S, rank)
        self.assertEqual(self.run_ranks(), [Passed(), Passed()])

    def stop(self, at_s):
        """Stop this process for a minute."""

        def stop():
            self.clock.time += 60

        self.script.at(at_s, stop)

    def test_while_this_process_is_stopped_they_stand_still(self):
        self.stop(5)
        for rank in (0, 1):
            self.passes(75, rank)
        self.assertEqual(self.run_ranks(), [Passed(), Passed()])

    def test_whatever_it_was_doing_when_it_was_stopped(self):
        """A process is stopped anywhere: here, between its wait and its look at the clock."""
        advance = supervisor.StatusRequests.advance

        def stopped_once(requests, ready):
            advance(requests, ready)
            if self.clock.elapsed_s >= 5:
                patch.stop()
                self.clock.time += 60

        patch = mock.patch.object(supervisor.StatusRequests, "advance", stopped_once)
        patch.start()
        for rank in (0, 1):
            self.passes(75, rank)
        self.assertEqual(self.run_ranks(), [Passed(), Passed()])

    def test_that_of_the_start_goes_on_afterwards(self):
        self.begin(ready=False)
        self.stop(5)
        self.say(61, 0, Ready())
        outcomes = self.run_ranks()
        self.assertEqual(outcomes, [Ended("body"), TimedOut("start", START_S)])
        self.assertEqual(self.clock.elapsed_s, 60 + START_S + supervisor.ANSWER_GRACE_S)

    def test_that_of_the_body_goes_on_afterwards(self):
        self.stop(5)
        self.assertEqual(self.run_ranks(), [TimedOut("body", BODY_S)] * 2)
        self.assertEqual(self.clock.elapsed_s, 60 + BODY_S + supervisor.ANSWER_GRACE_S)

    def test_that_of_the_exit_begins_afterwards(self):
        self.stop(5)
        self.say(70, range(2), Report(Passed()))
        self.exit(71, 0)
        self.assertEqual(self.run_ranks(), [Passed(), TimedOut("exit", EXIT_S)])
        self.assertEqual(self.clock.elapsed_s, 70 + EXIT_S + supervisor.ANSWER_GRACE_S)

    def test_a_grace_goes_on_afterwards(self):
        self.say(4, 0, Report(ECHO))
        self.stop(4.1)
        self.exit(64.5, 1, code=-signal.SIGSEGV)
        self.assertEqual(self.run_ranks(), [ECHO, Killed(signal.SIGSEGV)])


class TestDeadlock(SupervisorTestCase):
    def waits_for(self, rank, peer, cpu_s=0.0):
        self.answers(
            rank,
            Snapshot(
                threads=(ThreadStack("MainThread", ()),),
                groups={"0": Group((0, 1), timeout_s=CALL_S)},
                waiting=Waiting("recv", "recv", (peer,), CALL_S),
                cpu_s=cpu_s,
            ),
        )

    def test_ranks_that_wait_for_each_other(self):
        self.waits_for(0, 1)
        self.waits_for(1, 0)
        outcomes = self.run_ranks(deadlock_s=1.0)
        self.assertEqual({type(outcome) for outcome in outcomes}, {Deadlocked})
        self.assertLess(self.clock.elapsed_s, BODY_S / 2)

    def test_one_of_them_goes_on(self):
        self.waits_for(0, 1)
        self.answers(1)
        self.assertEqual(self.run_ranks(deadlock_s=1.0), [TimedOut("body", BODY_S)] * 2)

    def test_one_of_them_uses_the_cpu(self):
        self.waits_for(0, 1)
        seconds = itertools.count()

        def answer(question):
            if not isinstance(question, SnapshotRequest):
                return []
            self.waits_for(1, 0, cpu_s=next(seconds))
            (snapshot_answer,) = self.ranks[1].answer(question)
            self.ranks[1].answer = answer
            return [snapshot_answer]

        self.ranks[1].answer = answer
        self.assertEqual(self.run_ranks(deadlock_s=1.0), [TimedOut("body", BODY_S)] * 2)

    def test_one_of_them_does_not_answer(self):
        self.waits_for(0, 1)
        self.assertEqual(self.run_ranks(deadlock_s=1.0), [TimedOut("body", BODY_S)] * 2)

    def test_one_of_them_is_heard_again_and_again(self):
        self.waits_for(0, 1)
        self.waits_for(1, 0)
        for tenths in range(0, 150, 5):
            self.say(tenths / 10, 0, PhaseBegun("set-up", 0.0))
        self.passes(16, 0)
        self.passes(16, 1)
        self.assertEqual(self.run_ranks(deadlock_s=1.0), [Passed(), Passed()])

    def test_no_look_is_taken_if_that_is_off(self):
        self.waits_for(0, 1)
        self.waits_for(1, 0)
        self.assertEqual(self.run_ranks(), [TimedOut("body", BODY_S)] * 2)
