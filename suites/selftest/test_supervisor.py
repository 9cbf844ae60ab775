"""`Supervisor`: how it follows ranks to their ends, and what it does after a fault."""

from __future__ import annotations

import signal

from harness.model.outcome import Ended, Exited, Killed, Lost, Passed, Sabotaged, Skipped, TimedOut
from harness.model.verdict import ExitRule
from harness.ranks.messages import Ready, Report, Sabotage, SnapshotRequest
from harness.ranks.watch import supervisor
from suites.selftest.supervised_ranks import BODY_S, ECHO, FAILED, RAISED, SupervisorTestCase


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
