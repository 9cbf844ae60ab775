"""`Supervisor`: its answers to ranks, the terminal that it lends them, and ranks that stay."""

from __future__ import annotations

import signal

from harness.model.example import Remarks
from harness.model.outcome import Ended, Killed, Passed, TimedOut
from harness.ranks.messages import (
    AtMeeting,
    ConnectingAnswer,
    ConnectingRequest,
    MayLeave,
    MeetingAnswer,
    Report,
    SnapshotRequest,
    TerminalAnswer,
    TerminalRequest,
    Waits,
    WaitsForExample,
)
from harness.ranks.watch import supervisor, terminal
from suites.selftest.supervised_ranks import BODY_S, FAILED, PARKS, SupervisorTestCase


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
        self.assertIn("rank 1 ended the test without calling a check", answer.error)

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
