"""`Supervisor`: when a test's ranks are waited for, asked, blamed and ended, on a fake clock."""

from __future__ import annotations

import itertools
import signal
from unittest import mock

from harness.model.evidence import Group, Snapshot, ThreadStack, Waiting
from harness.model.example import Remarks
from harness.model.outcome import (
    Deadlocked,
    Ended,
    Exited,
    Failed,
    Killed,
    Lost,
    Passed,
    Problem,
    Raised,
    Sabotaged,
    Skipped,
    TimedOut,
)
from harness.model.verdict import USUAL_EXIT, ExitRule
from harness.ranks.messages import (
    AtMeeting,
    ConnectingAnswer,
    ConnectingRequest,
    MayLeave,
    MeetingAnswer,
    PhaseBegun,
    Ready,
    Report,
    Sabotage,
    SnapshotAnswer,
    SnapshotRequest,
    TerminalAnswer,
    TerminalRequest,
    Waits,
    WaitsForExample,
)
from harness.ranks.watch import supervisor, terminal
from harness.ranks.watch.supervisor import Limits, Supervisor
from suites.selftest.fake_ranks import FakeTimeTestCase, FakeWorld, Script

START_S, BODY_S, EXIT_S = 10.0, 20.0, 5.0

FAILED = Failed((Problem("AssertionError", "1 != 2", "…", is_assertion=True),))
RAISED = Raised((Problem("ValueError", "no", "…", is_assertion=False),))
ECHO = Raised((Problem("RuntimeError", "Connection closed by peer", "…", is_assertion=False),))
PARKS = Waits((), True, {}, ())
CALL_S = 300.0


class SupervisorTestCase(FakeTimeTestCase):
    """Ranks 0 and 1, which are up at once; a test says what else they do, and when."""

    def setUp(self):
        super().setUp()
        self.begin()

    def begin(self, size=2, ready=True):
        self.world = FakeWorld(size)
        self.ranks = self.world.handles
        self.script = Script(self.clock, self.ranks)
        self.patch(supervisor, "readable", self.script.readable)
        if ready:
            self.say(0, range(size), Ready())

    def say(self, at_s, ranks, *messages):
        for rank in ranks if isinstance(ranks, range) else [ranks]:
            self.script.at(at_s, self.ranks[rank].say, *messages)

    def exit(self, at_s, rank, code=0):
        self.script.at(at_s, self.ranks[rank].exit, code)

    def passes(self, at_s, rank):
        self.say(at_s, rank, Report(Passed()))
        self.exit(at_s, rank)

    def answers(self, rank, snapshot=None):
        """Have a rank answer when it is asked what it does."""

        def answer(question):
            if isinstance(question, SnapshotRequest):
                return [SnapshotAnswer(question.round, snapshot or Snapshot())]
            return []

        self.ranks[rank].answer = answer

    def run_ranks(self, rule=USUAL_EXIT, **limits):
        """Watch the ranks; returns their outcomes."""
        limits = {"start_s": START_S, "body_s": BODY_S, "exit_s": EXIT_S} | limits
        self.supervisor = Supervisor(self.world, Limits(**limits), rule)
        return [report.outcome for report in self.supervisor.run()]

    @staticmethod
    def interrupt():
        raise KeyboardInterrupt

    def asked(self, rank, kind):
        return [message for message in self.ranks[rank].asked if isinstance(message, kind)]

    def ordered(self, rank, kind):
        return [message for message in self.ranks[rank].ordered if isinstance(message, kind)]


class TestSoundTests(SupervisorTestCase):
    def test_all_ranks_pass(self):
        self.passes(1, 0)
        self.passes(3, 1)
        self.assertEqual(self.run_ranks(), [Passed(), Passed()])
        self.assertEqual(self.clock.elapsed_s, 3)
        self.assertEqual(self.world.killed, [])
        self.assertFalse(self.world.is_idle or self.world.awaits_example)

    def test_a_report_has_rank_process_and_time(self):
        self.passes(1, 0)
        self.passes(3, 1)
        self.run_ranks()
        reports = self.supervisor.reports()
        self.assertEqual([report.rank for report in reports], [0, 1])
        self.assertEqual([report.pid for report in reports], [5000, 5001])
        self.assertEqual(
            [report.at_s - self.clock.start for report in reports],
            [1, 3],
        )

    def test_a_skip_is_no_fault(self):
        self.say(1, 0, Report(Skipped("no GPU")))
        self.exit(1, 0)
        self.passes(9, 1)
        self.assertEqual(self.run_ranks(), [Skipped("no GPU"), Passed()])

    def test_an_exit_code_that_the_test_expects_is_no_fault(self):
        self.exit(1, 0, code=7)
        self.passes(9, 1)
        self.assertEqual(self.run_ranks(ExitRule(expected_code=7)), [Exited(7), Passed()])
        self.assertEqual(self.clock.elapsed_s, 9)

    def test_what_a_rank_said_last_is_heard_after_its_exit_is_seen(self):
        self.passes(1, 0)
        self.script.at(1, self.ranks[1].exit, 0, [Report(Passed())])
        self.assertEqual(self.run_ranks(), [Passed(), Passed()])


class TestFaults(SupervisorTestCase):
    def test_peers_get_a_short_grace(self):
        self.say(1, 0, Report(FAILED))
        self.assertEqual(self.run_ranks(), [FAILED, Ended("body")])
        self.assertEqual(self.clock.elapsed_s, 1 + supervisor.PEER_GRACE_S)
        self.assertEqual(self.world.killed, [0, 1])

    def test_all_are_asked_where_they_are(self):
        self.say(1, 0, Report(FAILED))
        self.run_ranks()
        for rank in (0, 1):
            (question,) = self.asked(rank, SnapshotRequest)
            self.assertTrue(question.full)

    def test_a_peers_own_words_in_the_grace_count(self):
        self.say(1, 0, Report(FAILED))
        self.say(1.1, 1, Report(RAISED))
        self.assertEqual(self.run_ranks(), [FAILED, RAISED])

    def test_so_do_those_of_a_peer_that_has_answered_already(self):
        self.answers(0)
        self.answers(1)
        self.say(1, 0, Report(FAILED))
        self.say(1.1, 1, Report(RAISED))
        self.assertEqual(self.run_ranks(), [FAILED, RAISED])

    def test_later_words_do_not(self):
        self.say(1, 0, Report(FAILED))
        self.say(1.3, 1, Report(RAISED))
        self.assertEqual(self.run_ranks(), [FAILED, Ended("body")])

    def test_who_has_gone_is_not_waited_for(self):
        self.say(1, 0, Report(FAILED))
        self.exit(1, 0, code=10)
        self.exit(1.1, 1, code=-signal.SIGABRT)
        self.assertEqual(self.run_ranks(), [FAILED, Killed(signal.SIGABRT)])
        self.assertEqual(self.clock.elapsed_s, 1.1)
        self.assertEqual(self.world.killed, [])

    def test_a_crash_is_one(self):
        self.exit(1, 0, code=-signal.SIGSEGV)
        self.assertEqual(self.run_ranks(), [Killed(signal.SIGSEGV), Ended("body")])
        self.assertEqual(self.clock.elapsed_s, 1 + supervisor.PEER_GRACE_S)

    def test_what_is_no_message_is_one(self):
        self.script.at(1, self.ranks[0].say_data, {"kind": "Nonsense"})
        lost, ended = self.run_ranks()
        self.assertIsInstance(lost, Lost)
        self.assertEqual(ended, Ended("body"))
        self.assertEqual(self.clock.elapsed_s, 1 + supervisor.PEER_GRACE_S)

    def test_a_peer_that_has_not_started(self):
        self.begin(ready=False)
        self.say(0, 0, Ready())
        self.say(1, 0, Report(FAILED))
        self.assertEqual(self.run_ranks(), [FAILED, Ended("start")])

    def test_a_peer_of_a_host_that_is_lost(self):
        self.say(1, 0, Report(FAILED))
        lost = Lost("no sign of life from beta")
        self.script.at(1, setattr, self.ranks[1], "lost", lost)
        self.assertEqual(self.run_ranks(), [FAILED, lost])

    def test_a_process_that_survives_sigkill(self):
        self.say(1, 0, Report(FAILED))
        self.ranks[0].survives = True
        lost, ended = self.run_ranks()
        self.assertEqual(lost, Lost("the process did not end even after SIGKILL"))
        self.assertEqual(ended, Ended("body"))

    def test_no_rank_is_left_when_the_watch_itself_is_interrupted(self):
        self.script.at(1, self.interrupt)
        with self.assertRaises(KeyboardInterrupt):
            self.run_ranks()
        self.assertEqual(self.world.killed, [0, 1])


class TestEchoes(SupervisorTestCase):
    def test_the_cause_is_waited_for(self):
        self.begin(3)
        self.say(1, 0, Report(ECHO))
        self.exit(2, 1, code=-signal.SIGSEGV)
        self.assertEqual(self.run_ranks(), [ECHO, Killed(signal.SIGSEGV), Ended("body")])
        # Then the others have the usual grace, and no more.
        self.assertEqual(self.clock.elapsed_s, 2 + supervisor.PEER_GRACE_S)

    def test_but_not_longer_than_the_grace_for_echoes(self):
        self.say(1, 0, Report(ECHO))
        self.exit(1.01 + supervisor.ECHO_GRACE_S, 1, code=-signal.SIGSEGV)
        self.assertEqual(self.run_ranks(), [ECHO, Ended("body")])
        self.assertEqual(self.clock.elapsed_s, 1 + supervisor.ECHO_GRACE_S)

    def test_a_late_cause_does_not_prolong_it(self):
        self.begin(3)
        self.say(1, 0, Report(ECHO))
        self.exit(0.9 + supervisor.ECHO_GRACE_S, 1, code=3)
        self.run_ranks()
        self.assertEqual(self.clock.elapsed_s, 1 + supervisor.ECHO_GRACE_S)

    def test_another_echo_is_no_cause(self):
        self.begin(3)
        self.say(1, 0, Report(ECHO))
        self.say(1.1, 1, Report(ECHO))
        self.exit(2.5, 2, code=3)
        self.assertEqual(self.run_ranks(), [ECHO, ECHO, Exited(3)])


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


class TestOnPurpose(SupervisorTestCase):
    def test_a_stopped_rank_is_not_waited_for_once_its_peers_are_done(self):
        self.say(1, 1, Sabotage("stop"))
        self.passes(3, 0)
        self.assertEqual(self.run_ranks(), [Passed(), Sabotaged("stopped")])
        self.assertEqual(self.clock.elapsed_s, 3)
        self.assertEqual(self.world.killed, [1])

    def test_its_peers_still_have_their_deadline(self):
        self.say(1, 1, Sabotage("stop"))
        outcomes = self.run_ranks()
        self.assertEqual(outcomes[0], TimedOut("body", BODY_S))

    def test_a_killed_rank_is_no_fault(self):
        self.say(1, 1, Sabotage("kill"))
        self.exit(1, 1, -signal.SIGKILL)
        self.passes(9, 0)
        self.assertEqual(self.run_ranks(), [Passed(), Sabotaged("killed")])
        self.assertEqual(self.clock.elapsed_s, 9)


class TestTerminal(SupervisorTestCase):
    def setUp(self):
        super().setUp()
        self.foreground = []
        self.patch(terminal, "_is_ours", lambda: True)
        self.patch(terminal, "to_foreground", lambda group: self.foreground.append(group) or "")

    def test_the_clock_stands_still_meanwhile(self):
        self.say(1, 0, TerminalRequest(True))
        self.say(101, 0, TerminalRequest(False))
        self.passes(119, 0)
        self.passes(119, 1)
        self.assertEqual(self.run_ranks(), [Passed(), Passed()])
        self.assertEqual(self.ordered(0, TerminalAnswer), [TerminalAnswer("")])
        self.assertEqual(self.foreground, [self.ranks[0].group, terminal.home_group()])

    def test_and_goes_on_afterwards(self):
        self.say(1, 0, TerminalRequest(True))
        self.say(101, 0, TerminalRequest(False))
        self.assertEqual(self.run_ranks(), [TimedOut("body", BODY_S)] * 2)
        self.assertEqual(self.clock.elapsed_s, 100 + BODY_S + supervisor.ANSWER_GRACE_S)

    def test_a_rank_that_dies_with_it_gives_it_back(self):
        self.say(1, 0, TerminalRequest(True))
        self.exit(50, 0, -signal.SIGKILL)
        self.assertEqual(self.run_ranks(), [Killed(signal.SIGKILL), Ended("body")])
        self.assertEqual(self.clock.elapsed_s, 50 + supervisor.PEER_GRACE_S)
        self.assertEqual(self.foreground[-1], terminal.home_group())

    def test_it_is_given_back_when_the_watch_is_interrupted(self):
        self.say(1, 0, TerminalRequest(True))
        self.script.at(2, self.interrupt)
        with self.assertRaises(KeyboardInterrupt):
            self.run_ranks()
        self.assertEqual(self.foreground, [self.ranks[0].group, terminal.home_group()])

    def test_one_rank_after_the_other(self):
        self.say(1, range(2), TerminalRequest(True))
        self.say(50, 0, TerminalRequest(False))
        self.say(90, 1, TerminalRequest(False))
        self.script.at(49, self.assertNotIn, self.ranks[1].group, self.foreground)
        self.passes(100, 0)
        self.passes(100, 1)
        self.assertEqual(self.run_ranks(), [Passed(), Passed()])
        home = terminal.home_group()
        self.assertEqual(self.foreground, [self.ranks[0].group, home, self.ranks[1].group, home])

    def test_a_fault_of_a_peer_does_not_end_a_debugger(self):
        self.say(1, 0, TerminalRequest(True))
        self.say(2, 1, Report(FAILED))
        self.say(70, 0, TerminalRequest(False))
        self.assertEqual(self.run_ranks(), [Ended("body"), FAILED])
        self.assertEqual(self.clock.elapsed_s, 70 + supervisor.PEER_GRACE_S)

    def test_a_rank_that_no_terminal_reaches_is_told_why(self):
        self.ranks[0].group = 0
        self.say(1, 0, TerminalRequest(True))
        self.passes(2, 0)
        self.passes(2, 1)
        self.run_ranks()
        (answer,) = self.ordered(0, TerminalAnswer)
        self.assertIn("no terminal", answer.error)
        self.assertEqual(self.foreground, [])


class TestStaying(SupervisorTestCase):
    def parks(self, at_s, rank, outcome=None, waits=PARKS):
        self.say(at_s, rank, Report(outcome or Passed()), waits)

    def test_all_wait_for_another_test(self):
        self.parks(1, 0)
        self.parks(2, 1)
        self.assertEqual(self.run_ranks(), [Passed(), Passed()])
        self.assertEqual(self.clock.elapsed_s, 2)
        self.assertTrue(self.world.is_idle and self.world.is_clean)
        self.assertFalse(self.world.awaits_example)
        self.assertEqual(self.world.killed, [])

    def test_all_wait_for_another_example(self):
        for rank in (0, 1):
            self.parks(1, rank, waits=WaitsForExample({}, Remarks()))
        self.assertEqual(self.run_ranks(), [Passed(), Passed()])
        self.assertTrue(self.world.awaits_example)
        self.assertFalse(self.world.is_idle)
        self.assertEqual(self.world.killed, [])

    def test_one_has_left_something(self):
        self.parks(1, 0)
        self.parks(1, 1, waits=Waits(("a thread",), False, {}, ()))
        self.run_ranks()
        self.assertTrue(self.world.is_idle)
        self.assertFalse(self.world.is_clean)

    def test_they_are_not_in_step(self):
        self.parks(1, 0, waits=Waits((), True, {"0": 1}, ()))
        self.parks(1, 1, waits=Waits((), True, {"0": 2}, ()))
        self.run_ranks()
        self.assertFalse(self.world.is_clean)

    def test_one_has_exited_though_it_was_to_stay(self):
        self.parks(1, 0)
        self.passes(2, 1)
        self.assertEqual(self.run_ranks(), [Passed(), Passed()])
        self.assertFalse(self.world.is_idle)
        self.assertEqual(self.world.killed, [0])

    def test_one_dies_while_it_waits(self):
        self.parks(1, 0)
        self.exit(2, 0, -signal.SIGKILL)
        self.parks(3, 1)
        self.assertEqual(self.run_ranks(), [Killed(signal.SIGKILL, True), Passed()])
        self.assertFalse(self.world.is_idle)
        self.assertEqual(self.world.killed, [1])

    def test_one_waits_while_its_peer_hangs(self):
        self.parks(1, 0)
        self.assertEqual(self.run_ranks(), [Passed(), TimedOut("body", BODY_S)])
        self.assertFalse(self.world.is_idle)
        self.assertEqual(self.world.killed, [0, 1])

    def test_after_a_fault_they_end(self):
        self.parks(1, 0, FAILED)
        self.parks(1.1, 1)
        self.assertEqual(self.run_ranks(), [FAILED, Passed()])
        self.assertFalse(self.world.is_idle)
        self.assertEqual(self.world.killed, [0, 1])

    def test_unless_they_may_stay_then(self):
        self.parks(1, 0, FAILED)
        self.parks(1.1, 1)
        self.assertEqual(self.run_ranks(faulty_stay=True), [FAILED, Passed()])
        self.assertTrue(self.world.is_idle)
        self.assertEqual(self.world.killed, [])
        self.assertEqual(self.asked(0, SnapshotRequest), [])

    def test_a_peer_that_does_not_come_to_an_end_is_asked_first(self):
        self.parks(1, 0, FAILED)
        self.assertEqual(self.run_ranks(faulty_stay=True), [FAILED, Ended("body")])
        self.assertEqual(self.clock.elapsed_s, 1 + 2 * supervisor.PEER_GRACE_S)
        self.assertEqual(len(self.asked(1, SnapshotRequest)), 1)
        self.assertEqual(self.world.killed, [0, 1])

    def test_after_a_hang_they_end_even_if_they_may_stay(self):
        self.parks(BODY_S + 0.5, 0)
        self.parks(BODY_S + 0.5, 1)
        self.assertEqual(self.run_ranks(faulty_stay=True), [TimedOut("body", BODY_S)] * 2)
        self.assertFalse(self.world.is_idle)
        self.assertEqual(self.world.killed, [0, 1])


class TestConversation(SupervisorTestCase):
    def test_a_meeting_of_all(self):
        self.say(1, 0, AtMeeting("a check", "x"))
        self.say(2, 1, AtMeeting("a check", "y"))
        self.passes(3, 0)
        self.passes(3, 1)
        self.run_ranks()
        for rank in (0, 1):
            self.assertEqual(self.ordered(rank, MeetingAnswer), [MeetingAnswer(0, ("x", "y"))])

    def test_nobody_waits_in_a_meeting_for_a_rank_that_has_ended(self):
        self.say(1, 0, AtMeeting("a check", "x"))
        self.passes(2, 1)
        self.passes(3, 0)
        self.run_ranks()
        (answer,) = self.ordered(0, MeetingAnswer)
        self.assertIn("rank 1 ended the test without coming to a check", answer.error)

    def test_ranks_leave_when_all_bodies_have_ended(self):
        self.say(1, 0, Report(Passed(), waits=True))
        self.script.at(1.5, lambda: self.assertEqual(self.ordered(0, MayLeave), []))
        self.say(1.5, 1, Report(Passed(), waits=True))
        self.exit(2, 0)
        self.exit(2, 1)
        self.assertEqual(self.run_ranks(), [Passed(), Passed()])
        self.assertEqual(self.ordered(0, MayLeave), [MayLeave()])
        self.assertEqual(self.ordered(1, MayLeave), [MayLeave()])

    def test_or_when_no_peer_brings_up_a_group(self):
        self.ranks[1].answer = lambda question: (
            [ConnectingAnswer(question.number, False)]
            if isinstance(question, ConnectingRequest)
            else []
        )
        self.say(1, 0, Report(Passed(), waits=True))
        self.script.at(1.5, lambda: self.assertEqual(self.ordered(0, MayLeave), [MayLeave()]))
        self.exit(1.5, 0)
        self.passes(9, 1)
        self.assertEqual(self.run_ranks(), [Passed(), Passed()])

    def test_or_when_the_test_is_being_ended(self):
        self.begin(3)
        self.say(1, 0, Report(Passed(), waits=True))
        self.say(1, 1, Report(FAILED))
        self.script.at(1.1, lambda: self.assertEqual(self.ordered(0, MayLeave), [MayLeave()]))
        self.exit(1.1, 0)
        self.assertEqual(self.run_ranks(), [Passed(), FAILED, Ended("body")])
