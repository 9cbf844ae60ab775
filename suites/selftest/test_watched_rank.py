"""`WatchedRank`: what a rank's messages and exit code make of its phase and its outcome."""

from __future__ import annotations

import signal

from harness.model.example import Remarks
from harness.model.outcome import Ended, Exited, Killed, Lost, Passed, Sabotaged, Skipped, TimedOut
from harness.model.phase import Phase
from harness.model.skips import TEST_SKIPS
from harness.ranks.messages import Exits, Goodbye, Ready, Report, Sabotage, Waits, WaitsForExample
from harness.ranks.watch.watched_rank import WatchedRank, are_in_sync, imported_by, leftovers_text
from suites.selftest.fake_ranks import FakeRank
from suites.selftest.watched_ranks import FAILED, PLACE, RAISED, SIGNALS, RankTestCase


class TestPhases(RankTestCase):
    def test_a_rank_that_runs_one_test(self):
        self.assertIs(self.rank.phase, Phase.START)
        self.hear(Ready())
        self.assertIs(self.rank.phase, Phase.BODY)
        self.hear(Report(Passed()))
        self.assertIs(self.rank.phase, Phase.EXIT)
        self.clock.time += 2
        self.exit(0)
        self.assertIs(self.rank.phase, Phase.GONE)
        self.assertEqual(self.rank.ended_s, self.clock.time)

    def test_a_rank_that_has_run_a_test_before_is_up(self):
        self.begin(is_new=False)
        self.assertIs(self.rank.phase, Phase.BODY)

    def test_a_rank_that_waits_for_another_test(self):
        self.hear(Ready(), Report(Passed()))
        self.clock.time += 2
        self.hear(Waits(("a thread",), False, {"default": 4}, ("json",)))
        self.assertIs(self.rank.phase, Phase.BETWEEN_TESTS)
        self.assertEqual(self.rank.ended_s, self.clock.time)
        self.assertEqual(self.rank.outcome, Passed())
        self.assertEqual(self.rank.at_s, self.clock.time - 2)  # of the report
        self.assertEqual(self.rank.left, ("a thread",))
        self.assertFalse(self.rank.is_clean)
        self.assertEqual(self.rank.positions, {"default": 4})
        self.assertEqual(self.rank.imported, ("json",))

    def test_a_rank_that_waits_for_another_example(self):
        self.hear(Ready(), Report(FAILED))
        self.hear(WaitsForExample({"default": 1}, Remarks(rejected="x > 1")))
        self.assertIs(self.rank.phase, Phase.BETWEEN_EXAMPLES)
        self.assertEqual(self.rank.outcome, FAILED)
        self.assertEqual(self.rank.remarks.rejected, "x > 1")
        self.assertTrue(self.rank.is_clean)
        self.assertEqual(self.rank.positions, {"default": 1})

    def test_the_process_may_end_in_any_phase(self):
        for messages in (
            [],
            [Ready()],
            [Ready(), Report(Passed())],
            [Ready(), Report(Passed()), Waits((), True, {}, ())],
            [Ready(), Report(Passed()), WaitsForExample({}, Remarks())],
        ):
            with self.subTest(messages=messages):
                self.begin()
                self.hear(*messages)
                self.assertEqual(
                    self.exit(-signal.SIGSEGV),
                    Killed(signal.SIGSEGV, after_body=len(messages) > 1),
                )
                self.assertIs(self.rank.phase, Phase.GONE)


class TestOutcomes(RankTestCase):
    def test_a_pass_needs_exit_code_0(self):
        report = Report(Passed())
        self.assertEqual(self.outcome_after(report, code=0), Passed())
        self.assertEqual(self.outcome_after(report, code=3), Exited(3, after_body=True))
        for number in SIGNALS:
            self.assertEqual(self.outcome_after(report, code=-number), Killed(number, True))

    def test_without_a_report_no_exit_code_is_a_pass(self):
        for code in (0, 1, 10, 71, 90, 255):
            self.assertEqual(self.outcome_after(code=code), Exited(code))
        for number in SIGNALS:
            self.assertEqual(self.outcome_after(code=-number), Killed(number))

    def test_what_a_rank_said_beats_its_exit_code(self):
        for said in (FAILED, RAISED, Skipped("no GPU")):
            for code in (0, 10, 75, -signal.SIGSEGV):
                self.assertEqual(self.outcome_after(Report(said), code=code), said)

    def test_the_place_of_sys_exit(self):
        self.assertEqual(self.outcome_after(Exits(PLACE), code=4), Exited(4, False, PLACE))

    def test_pytorchs_exit_codes_for_skips(self):
        for skip in TEST_SKIPS.values():
            self.assertEqual(self.outcome_after(code=skip.exit_code), Skipped(skip.message))

    def test_such_a_code_after_the_body_is_no_skip(self):
        code = TEST_SKIPS["no_cuda"].exit_code
        self.assertEqual(self.outcome_after(Report(Passed()), code=code), Exited(code, True))

    def test_a_rank_that_the_test_has_killed(self):
        kill = Sabotage("kill")
        self.assertEqual(self.outcome_after(kill, code=-signal.SIGKILL), Sabotaged("killed"))
        self.assertEqual(self.outcome_after(kill, code=-signal.SIGSEGV), Killed(signal.SIGSEGV))
        self.assertEqual(self.outcome_after(kill, code=0), Exited(0))

    def test_a_rank_that_the_test_has_stopped_may_not_be_killed(self):
        outcome = self.outcome_after(Sabotage("stop"), code=-signal.SIGKILL)
        self.assertEqual(outcome, Killed(signal.SIGKILL))

    def test_a_rank_whose_exit_code_nobody_knows(self):
        lost = Lost("the fork server died")
        for messages, expected in (
            ([], lost),
            ([Report(Passed())], lost),
            ([Report(Passed()), Goodbye(())], Passed()),
            ([Goodbye(())], lost),
            ([Report(FAILED)], FAILED),
        ):
            with self.subTest(messages=messages):
                self.begin()
                self.hear(Ready(), *messages)
                self.handle.lost = lost
                self.assertEqual(self.exit(255), expected)

    def test_the_first_outcome_stands(self):
        self.hear(Ready())
        self.rank.settle(TimedOut("body", 5))
        blamed_s = self.clock.time
        self.clock.time += 1
        self.hear(Report(Passed()))
        self.assertEqual(self.exit(0), TimedOut("body", 5))
        self.rank.settle(Ended())
        self.assertEqual(self.rank.outcome, TimedOut("body", 5))
        self.assertEqual(self.rank.at_s, blamed_s)

    def test_a_rank_that_dies_while_it_waits(self):
        for waits in (Waits((), True, {}, ()), WaitsForExample({}, Remarks())):
            with self.subTest(waits=waits):
                self.begin()
                self.hear(Ready(), Report(Passed()), waits)
                self.assertEqual(self.exit(-signal.SIGKILL), Killed(signal.SIGKILL, True))


class TestReports(RankTestCase):
    def report(self, *outcomes):
        """Return what counts, and which of the reports it was."""
        self.begin()
        self.hear(Ready())
        began_s = self.clock.time
        for outcome in outcomes:
            self.clock.time += 1
            self.hear(Report(outcome))
        return self.exit(0), self.rank.at_s - began_s

    def test_a_later_and_worse_one_counts(self):
        for bad in (FAILED, RAISED):
            self.assertEqual(self.report(Passed(), bad), (bad, 2))
            self.assertEqual(self.report(Skipped("no GPU"), bad), (bad, 2))

    def test_otherwise_the_first_one_counts(self):
        for first, second in (
            (FAILED, Passed()),
            (FAILED, RAISED),
            (RAISED, FAILED),
            (Passed(), Skipped("no GPU")),
            (Skipped("no GPU"), Passed()),
        ):
            self.assertEqual(self.report(first, second), (first, 1))

    def test_one_that_comes_late(self):
        # The rank was between tests already, and its outcome was settled.
        self.hear(Ready(), Report(Passed()), Waits((), True, {}, ()))
        self.assertEqual(self.rank.outcome, Passed())
        self.hear(Report(FAILED))
        self.assertIs(self.rank.phase, Phase.EXIT)
        self.assertEqual(self.rank.reported, FAILED)

    def test_whether_it_waits_for_leave(self):
        self.hear(Ready(), Report(Passed(), waits=True))
        self.assertTrue(self.rank.waits_to_leave)


class TestSeveral(RankTestCase):
    def ranks(self, *waits):
        """Return ranks that have said this; one that has said None has exited."""
        ranks = []
        for number, said in enumerate(waits):
            handle = FakeRank(number)
            rank = WatchedRank(handle)
            handle.say(Ready(), Report(Passed()), *([] if said is None else [said]))
            rank.handle_messages()
            if said is None:
                rank.settle_by_exit(0)
            ranks.append(rank)
        return ranks

    def test_what_they_have_left(self):
        thread = Waits(("a thread",), False, {}, ())
        clean = Waits((), True, {}, ())
        self.assertEqual(leftovers_text(self.ranks(clean, clean)), [])
        self.assertEqual(
            leftovers_text(self.ranks(thread, clean, thread)), ["ranks 0 and 2: a thread"]
        )

    def test_different_numbers_of_collectives(self):
        ranks = self.ranks(
            Waits((), True, {"0": 2, "1": 1}, ()), Waits((), True, {"0": 2, "1": 4}, ())
        )
        self.assertFalse(are_in_sync(ranks))
        self.assertEqual(
            leftovers_text(ranks),
            ["the ranks have called different numbers of collectives: rank 0: 3, rank 1: 6"],
        )

    def test_different_groups(self):
        ranks = self.ranks(Waits((), True, {"0": 2}, ()), Waits((), True, {}, ()))
        self.assertFalse(are_in_sync(ranks))
        self.assertEqual(
            leftovers_text(ranks),
            ["the ranks have different process groups: rank 0: '0', rank 1: none"],
        )

    def test_beside_a_rank_that_has_ended_numbers_do_not_matter(self):
        ranks = self.ranks(Waits((), True, {"0": 2}, ()), None)
        self.assertEqual(leftovers_text(ranks), [])

    def test_what_they_have_imported(self):
        ranks = self.ranks(Waits((), True, {}, ("b", "a")), Waits((), True, {}, ("c", "b")))
        self.assertEqual(imported_by(ranks), ("b", "a", "c"))
