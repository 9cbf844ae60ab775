"""`WorkerPool`: which worker runs what, is replaced, asked and ended when, on a fake clock."""

from __future__ import annotations

import signal

from harness.model.errors import UsageError
from harness.runner.ledger import Ledger
from harness.runner.options import Limits
from harness.runner.results import TestRecord
from harness.runner.selection.planned_test import Found
from harness.runner.workers import messages
from harness.runner.workers.schedule import Item, Schedule
from harness.runner.workers.worker_pool import WorkerPool
from suites.selftest.fake_workers import Behaviour
from suites.selftest.worker_pool_runs import FAILED, PASSED, SHORT_S, WorkerPoolTestCase


class TestDiscovery(WorkerPoolTestCase):
    FOUND = Found((), {}, {}, (), 0, ())

    def discover(self, jobs=2):
        self.pool = WorkerPool(self.starter, jobs, self.signals, self.observer)
        return self.pool.discover()

    def test_the_first_worker_finds_the_tests(self):
        self.world.found = self.FOUND
        self.assertEqual(self.discover(), self.FOUND)
        (worker,) = self.workers
        self.assertEqual((worker.number, worker.told), (1, [messages.Discover()]))

    def test_and_then_runs_some(self):
        self.world.found = self.FOUND
        self.discover(jobs=1)
        schedule = Schedule({}, 1, max_ranks=8)
        ledger = Ledger(0, None, self.observer)
        self.pool.run(iter([self.items("a")]), schedule, ledger, Limits())
        self.assertEqual([name for _, name, _ in self.world.runs], ["a"])
        self.assertEqual(len(self.workers), 1)

    def test_names_that_mean_nothing(self):
        self.script.at(1, lambda: self.workers[0].say(messages.Unusable("no test x")))
        with self.assertRaisesRegex(UsageError, "no test x"):
            self.discover()

    def test_a_worker_that_dies(self):
        self.script.at(3, lambda: self.workers[0].exit(-signal.SIGSEGV))
        with self.assertRaisesRegex(UsageError, r"(?s)imported the tests .*SIGSEGV.*out\nerr$"):
            self.discover()
        self.assertEqual(self.clock.elapsed_s, 3)
        self.assertGreater(self.observer.ticks, 10)

    def test_it_is_suspended_meanwhile(self):
        self.script.at(1, self.signals.ctrl_z)
        self.script.at(2, lambda: self.workers[0].say(messages.Discovered(self.FOUND)))
        self.discover()
        self.assertEqual(self.workers[0].signals, [signal.SIGSTOP, signal.SIGCONT])


class TestSoundRuns(WorkerPoolTestCase):
    def test_workers_run_side_by_side(self):
        records = self.run_all(self.items("a", "b", "c", "d"), jobs=2)
        self.assertEqual(self.statuses(records), dict.fromkeys("abcd", PASSED))
        self.assertEqual(
            self.world.runs, [(1, "a", 0.0), (2, "b", 0.0), (1, "c", 1.0), (2, "d", 1.0)]
        )
        self.assertEqual(self.clock.elapsed_s, 2)
        self.assertEqual((self.pool.stopped, self.lost), ("", []))
        for worker in self.workers:
            self.assertEqual(self.told(worker, messages.Leave), [messages.Leave()])
            self.assertEqual(worker.signals, [])

    def test_there_are_no_more_workers_than_tests(self):
        self.run_all(self.items("a", "b"), jobs=8)
        self.assertEqual([worker.number for worker in self.workers], [1, 2])

    def test_the_next_round_begins_when_all_of_this_one_are_handed_out(self):
        first = self.items("a", "b", "c")
        second = [Item(item.number, item.test, round=2) for item in first]
        self.run_all(first, [], second, jobs=2)
        self.assertEqual([name for _, name, _ in self.world.runs], [*"abcabc"])
        self.assertEqual(self.clock.elapsed_s, 3)

    def test_the_observer_is_told(self):
        self.run_all(self.items("a"))
        told = [("began", "m.C.a"), ("ended", "m.C.a"), ("done", "m.C.a")]
        self.assertEqual(self.observer.events, told)
        self.assertGreaterEqual(self.observer.ticks, 5)

    def test_a_warning_is_shown_once(self):
        warns = Behaviour(more=(messages.WarningShown("careful"),))
        self.behave(a=warns, b=warns)
        self.run_all(self.items("a", "b"))
        self.assertEqual(self.observer.of("warn"), ["careful"])

    def test_a_fixture_that_fails_explains_why_tests_did_not_run(self):
        broken = "setUpClass (m.C)"
        failed = messages.Ended(TestRecord(broken, FAILED))
        self.behave(a=Behaviour(blocked_by=broken, more=(failed,)), b=Behaviour(blocked_by=broken))
        records = self.run_all(self.items("a", "b"))
        self.assertEqual(self.statuses(records), {broken: FAILED})
        self.assertEqual(self.lost, [])

    def test_a_tear_down_after_the_last_test(self):
        torn = TestRecord("tearDownClass (m.C)", FAILED)
        self.behave(a=Behaviour(first=lambda w: w.later(1.0, w.say, messages.Ended(torn))))
        records = self.run_all(self.items("a"))
        self.assertEqual(self.statuses(records), {"a": PASSED, "tearDownClass (m.C)": FAILED})

    def test_one_that_the_worker_keeps_waiting_is_timed_from_its_own_start(self):
        self.behave(a=Behaviour(seconds=3.0), b=Behaviour(seconds=3.0))
        records = self.run_all(self.items("a", "b"), limit_s=5.0, seconds=SHORT_S)
        self.assertEqual(len(self.told(self.workers[0], messages.RunTests)), 1)
        self.assertEqual(self.statuses(records), {"a": PASSED, "b": PASSED})


class TestReplacement(WorkerPoolTestCase):
    def test_a_retry_gets_a_fresh_worker(self):
        self.behave(a=Behaviour(fails=1))
        records = self.run_all(self.items("a"), retries=2)
        self.assertEqual(records["a"].status, PASSED)
        self.assertEqual(len(records["a"].earlier), 1)
        self.assertEqual([worker.number for worker in self.workers], [1, 1])
        self.assertEqual(self.observer.of("failed_once"), ["m.C.a"])
        self.assertEqual(self.observer.of("done"), ["m.C.a"])
        self.assertEqual(self.workers[0].signals, [])

    def test_retries_end(self):
        self.behave(a=Behaviour(fails=9))
        records = self.run_all(self.items("a"), retries=2)
        self.assertEqual((records["a"].status, len(records["a"].earlier)), (FAILED, 2))
        self.assertEqual(len(self.workers), 3)

    def test_a_damaged_worker_runs_no_other_test(self):
        self.behave(a=Behaviour(more=(messages.Damaged(),)))
        self.run_all(self.items("a", "b"))
        first, second = self.workers
        self.assertEqual((first.number, second.number), (1, 1))
        self.assertEqual(len(self.told(second, messages.RunTests)), 1)

    def test_a_worker_that_lacks_what_others_have_imported_is_replaced(self):
        self.behave(a=Behaviour(more=(messages.Imported(("numpy",)),)))
        self.run_all(self.items("a", "b"))
        self.assertEqual(self.starter.preloaded, ["numpy"])
        self.assertEqual(len(self.workers), 2)

    def test_but_not_under_a_fixture(self):
        self.behave(a=Behaviour(more=(messages.Imported(("numpy",)),)))
        self.run_all(self.items("a", "b", fixture="m.C"))
        self.assertEqual(len(self.workers), 1)

    def test_nor_is_one_that_has_run_nothing(self):
        self.behave(a=Behaviour(seconds=2.0), b=Behaviour(seconds=3.0))
        self.script.at(0.5, self.starter.preload, ("numpy",))
        a, b = self.items("a", "b", resources=frozenset({"port"}))
        self.script.at(2.0, lambda: self.workers[0].exit(3))
        self.run_all([a, b], jobs=2)
        self.assertEqual([run[:2] for run in self.world.runs], [(1, "a"), (2, "b")])
        self.assertEqual([worker.number for worker in self.workers], [1, 2, 1])

    def test_one_that_does_not_leave_is_killed(self):
        self.world.leaves = None
        self.behave(a=Behaviour(more=(messages.Damaged(),)), b=Behaviour(seconds=30.0))
        records = self.run_all(self.items("a", "b"))
        first, second = self.workers
        self.assertEqual(first.signals, [signal.SIGKILL])
        self.assertEqual(second.signals, [signal.SIGKILL])
        end = records["tearDownClass (m.C)"]
        self.assertEqual(end.status, FAILED)
        self.assertIn("it did not exit in time", end.troubles[0].text)
        self.assertEqual(records["b"].status, PASSED)

    def test_a_fixture_is_not_held_by_who_is_replaced(self):
        self.behave(a=Behaviour(fails=1))
        self.run_all(self.items("a", "b", fixture="m.C"), retries=1)
        self.assertEqual(len(self.workers), 2)
        self.assertEqual([name for _, name, _ in self.world.runs], ["a", "b", "a"])

    def test_another_worker_may_take_it_over(self):
        self.world.leaves = None  # the one that is replaced takes its time
        self.behave(a=Behaviour(more=(messages.Damaged(),)))
        self.run_all(self.items("a", "b", "c", fixture="m.C"), jobs=2, seconds=0.1)
        self.assertEqual(self.world.runs, [(1, "a", 0.0), (1, "b", 1.0), (2, "c", 1.0)])


class TestSerial(WorkerPoolTestCase):
    def run_serial(self):
        (alone,) = self.items("alone", is_serial=True)
        others = self.items("a", "b", first=1, fixture="m.C")
        return self.run_all([alone, *others], jobs=2)

    def test_it_waits_until_fixtures_are_taken_down(self):
        self.world.tear_down_s = 3.0
        self.run_serial()
        self.assertEqual([run[1:] for run in self.world.runs][-1], ("alone", 5.0))
        self.assertEqual(self.observer.of("done")[-1], "m.C.alone")

    def test_one_without_a_fixture_is_not_asked(self):
        self.run_serial()
        rests = [len(self.told(worker, messages.TearDown)) for worker in self.workers]
        self.assertEqual(rests, [1, 0])

    def test_one_that_dies_while_it_takes_its_fixture_down(self):
        self.world.tear_down_s = 30.0
        self.script.at(4, lambda: self.workers[0].exit(3))
        records = self.run_serial()
        self.assertEqual([run[1:] for run in self.world.runs][-1], ("alone", 4.0))
        self.assertIn("exit code 3", records["tearDownClass (m.C)"].troubles[0].text)


class TestDeaths(WorkerPoolTestCase):
    def test_its_test_fails_and_another_goes_on(self):
        self.behave(a=Behaviour(seconds=2.0, exits=-signal.SIGKILL))
        records = self.run_all(self.items("a", "b", "c"), seconds=SHORT_S)
        self.assertEqual(self.statuses(records), {"a": FAILED, "b": PASSED, "c": PASSED})
        text = records["a"].troubles[0].text
        self.assertIn("WorkerDied: the process that ran the test ended during it: killed by", text)
        self.assertEqual((records["a"].seconds, records["a"].stdout), (2.0, "out\n"))
        self.assertEqual([worker.number for worker in self.workers], [1, 1])
        self.assertEqual([name for _, name, _ in self.world.runs], ["a", "b", "c"])

    def test_what_it_said_last_is_heard(self):
        """Its end and its last messages may be seen at once."""
        self.behave(a=Behaviour(exits_afterwards=3))
        records = self.run_all(self.items("a", "b"))
        self.assertEqual(records["a"].status, PASSED)
        self.assertIn("exit code 3", records["tearDownClass (m.C)"].troubles[0].text)
        self.assertEqual(records["b"].status, PASSED)

    def test_a_death_is_retried(self):
        self.behave(a=Behaviour(exits=3, first=lambda w: self.behave()))
        records = self.run_all(self.items("a"), retries=1)
        self.assertEqual((records["a"].status, len(records["a"].earlier)), (PASSED, 1))

    def test_one_that_was_cut_off_has_left_its_record(self):
        left = TestRecord("m.C.a", FAILED, reason="it closed the channel")

        def cut_off(worker):
            worker.left_record = left

        self.behave(a=Behaviour(exits=1, first=cut_off))
        records = self.run_all(self.items("a"))
        self.assertEqual(records["a"].reason, "it closed the channel")

    def test_one_that_has_said_what_is_no_message(self):
        def garble(worker):
            worker.unreadable = "not JSON: x"

        self.behave(a=Behaviour(exits=-signal.SIGKILL, first=garble))
        records = self.run_all(self.items("a"))
        self.assertIn("it sent invalid data: not JSON: x", records["a"].troubles[0].text)

    def test_a_bad_end_after_the_last_test(self):
        self.world.leaves = 7
        records = self.run_all(self.items("a"))
        end = records["tearDownClass (m.C)"].troubles[0].text
        self.assertIn(
            "after its last test, m.C.a, the process did not exit normally (exit code 7)", end
        )

    def test_others_take_over_its_fixture(self):
        self.behave(a=Behaviour(exits=3))
        records = self.run_all(self.items("a", "b", fixture="m.C"), jobs=2, seconds=0.1)
        self.assertEqual(self.statuses(records), {"a": FAILED, "b": PASSED})
        self.assertEqual(self.world.runs, [(1, "a", 0.0), (2, "b", 1.0)])
