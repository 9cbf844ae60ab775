"""`WorkerPool`: time limits, and runs that the user stops, suspends or asks about."""

from __future__ import annotations

import signal

from harness.model.clock import Deadline
from harness.runner.results import TestRecord
from harness.runner.workers import messages, worker_pool
from suites.selftest.fake_workers import Behaviour
from suites.selftest.worker_pool_runs import FAILED, HANGS, PASSED, SHORT_S, WorkerPoolTestCase


class TestLimits(WorkerPoolTestCase):
    def test_of_a_test(self):
        self.behave(a=HANGS)
        records = self.run_all(self.items("a", "b"), limit_s=5.0)
        self.assertEqual(self.statuses(records), {"a": FAILED, "b": PASSED})
        self.assertEqual(
            records["a"].troubles[0].text.partition("\n\n")[0],
            "TestTimedOut: the test timed out after 5 s (--test-timeout)\n"
            "where it was:\n  worker 1 runs",
        )
        first, _ = self.workers
        self.assertEqual(first.signals, [signal.SIGTERM])
        self.assertEqual(self.clock.elapsed_s, 5 + 1)

    def test_of_one_that_does_not_answer(self):
        self.behave(a=HANGS)
        self.world.answers = self.world.heeds_term = False
        records = self.run_all(self.items("a"), limit_s=5.0)
        self.assertNotIn("where it was", records["a"].troubles[0].text)
        self.assertEqual(self.workers[0].signals, [signal.SIGTERM, signal.SIGKILL])
        self.assertEqual(self.clock.elapsed_s, 5 + worker_pool._WHERE_S + worker_pool._TERM_GRACE_S)

    def test_it_is_asked_before_it_is_ended(self):
        self.behave(a=HANGS)
        self.world.answers = False
        self.script.at(6, lambda: self.workers[0].say(messages.WhereAnswer("  late")))
        records = self.run_all(self.items("a"), limit_s=5.0)
        self.assertIn("where it was:\n  late", records["a"].troubles[0].text)
        self.assertEqual(self.clock.elapsed_s, 6)

    def test_an_answer_after_its_end_began_does_not_prolong_it(self):
        self.behave(a=HANGS)
        self.world.answers = self.world.heeds_term = False
        self.script.at(10, lambda: self.workers[0].say(messages.WhereAnswer("  late")))
        self.run_all(self.items("a"), limit_s=5.0)
        self.assertEqual(self.workers[0].signals, [signal.SIGTERM, signal.SIGKILL])
        self.assertEqual(self.clock.elapsed_s, 5 + worker_pool._WHERE_S + worker_pool._TERM_GRACE_S)

    def test_of_each_test_alone(self):
        self.behave(a=Behaviour(seconds=3.0), b=Behaviour(seconds=3.0))
        records = self.run_all(self.items("a", "b"), limit_s=5.0)
        self.assertEqual(self.statuses(records), {"a": PASSED, "b": PASSED})

    def test_there_is_none_between_tests(self):
        """The second worker has nothing to do while the first one uses a port."""
        self.behave(a=Behaviour(seconds=4.0), b=Behaviour(seconds=4.0))
        items = self.items("a", "b", resources=frozenset({"port"}))
        items += self.items("c", first=2)
        self.run_all(items, jobs=2, limit_s=5.0)
        self.assertEqual([run[:2] for run in self.world.runs], [(1, "a"), (2, "c"), (1, "b")])
        self.assertEqual(self.told(self.workers[1], messages.WhereRequest), [])

    def test_the_tear_down_of_a_class_counts(self):
        """The result is there, but the test's time goes on until its class is taken down."""
        self.behave(a=Behaviour(after_s=30.0))
        records = self.run_all(self.items("a"), limit_s=5.0)
        self.assertEqual(records["a"].status, FAILED)
        self.assertIn("TestTimedOut", records["a"].troubles[0].text)

    def test_a_result_that_comes_too_late_does_not_count(self):
        self.behave(a=Behaviour(seconds=5.5))
        self.world.answers = False
        records = self.run_all(self.items("a"), limit_s=5.0)
        self.assertEqual(records["a"].status, FAILED)
        self.assertEqual(self.observer.of("ended"), ["m.C.a"])

    def test_those_behind_it_are_given_to_another_worker(self):
        self.behave(a=HANGS)
        records = self.run_all(self.items("a", "b"), limit_s=5.0, seconds=SHORT_S)
        self.assertEqual(self.statuses(records), {"a": FAILED, "b": PASSED})
        self.assertEqual([name for _, name, _ in self.world.runs], ["a", "b"])

    def test_of_the_run(self):
        self.behave(a=HANGS)
        records = self.run_all(self.items("a", "b"), run=Deadline.after(7.0))
        self.assertEqual(self.pool.stopped, "out of time")
        self.assertEqual(self.statuses(records), {"a": FAILED})
        text = records["a"].troubles[0].text
        self.assertIn("the run was stopped (--run-timeout) while this test ran, after 7.0 s", text)
        self.assertEqual(self.clock.elapsed_s, 7)

    def test_of_the_run_with_tests_that_are_about_to_begin(self):
        self.behave(a=HANGS)
        records = self.run_all(self.items("a", "b"), run=Deadline.after(7.0), seconds=SHORT_S)
        self.assertEqual(self.statuses(records), {"a": FAILED})
        self.assertEqual([name for _, name, _ in self.world.runs], ["a"])

    def test_of_the_run_and_then_an_interrupt(self):
        self.behave(a=HANGS)
        self.world.answers = self.world.heeds_term = False
        self.script.at(8, self.signals.interrupt)
        self.run_all(self.items("a"), run=Deadline.after(7.0))
        self.assertEqual(self.pool.stopped, "interrupted")
        self.assertEqual(self.workers[0].signals, [signal.SIGTERM, signal.SIGKILL])
        self.assertEqual(self.clock.elapsed_s, 8 + worker_pool._TERM_GRACE_S)

    def test_of_leaving(self):
        self.world.leaves = None
        records = self.run_all(self.items("a"))
        self.assertEqual(self.workers[0].signals, [signal.SIGKILL])
        self.assertIn("it did not exit in time", records["tearDownClass (m.C)"].troubles[0].text)
        self.assertGreater(self.clock.elapsed_s, 5)

    def test_a_test_limit_is_not_that_of_leaving(self):
        """A tear-down of the class, on the way out, is no test."""
        self.world.leaves = None
        torn = TestRecord("tearDownClass (m.C)", PASSED)

        def tear_down(worker):
            worker.later(2.0, worker.say, messages.Started(self.clock.time + 2, (0, 0)))
            worker.later(2.5, worker.say, messages.Ended(torn), messages.Goodbye())
            worker.later(2.5, worker.exit, 0)

        self.behave(a=Behaviour(first=tear_down))
        records = self.run_all(self.items("a"), limit_s=1.2)
        self.assertEqual(self.workers[0].signals, [])
        self.assertEqual(records["tearDownClass (m.C)"].status, PASSED)


class TestInterrupts(WorkerPoolTestCase):
    def test_what_runs_is_ended_and_says_where_it_was(self):
        self.behave(a=HANGS, b=HANGS)
        self.script.at(2, self.signals.interrupt)
        records = self.run_all(self.items("a", "b", "c"), jobs=2)
        self.assertEqual(self.pool.stopped, "interrupted")
        self.assertEqual(self.statuses(records), {"a": FAILED, "b": FAILED})
        self.assertIn(
            "RunStopped: the run was stopped (Ctrl-C) while this test ran, after 2.0 s\n"
            "where it was:\n  worker 2 runs",
            records["b"].troubles[0].text,
        )
        self.assertEqual([worker.signals for worker in self.workers], [[signal.SIGTERM]] * 2)
        self.assertEqual(self.clock.elapsed_s, 2)

    def test_what_has_not_begun_does_not_begin(self):
        self.script.at(0.5, self.signals.interrupt)
        self.world.heeds_term = False
        records = self.run_all(self.items("a", "b", "c"), seconds=SHORT_S)
        self.assertEqual([name for _, name, _ in self.world.runs], ["a"])
        self.assertEqual(self.told(self.workers[0], messages.CancelTests), [messages.CancelTests()])
        self.assertNotIn("b", records)

    def test_a_test_that_ends_in_the_grace_has_its_result(self):
        self.world.heeds_term = False
        self.script.at(0.5, self.signals.interrupt)
        records = self.run_all(self.items("a"))
        self.assertEqual(records["a"].status, PASSED)

    def test_a_test_that_does_not_end_is_killed_after_a_grace(self):
        self.behave(a=HANGS)
        self.world.heeds_term = False
        self.script.at(1, self.signals.interrupt)
        self.run_all(self.items("a"))
        self.assertEqual(self.workers[0].signals, [signal.SIGTERM, signal.SIGKILL])
        self.assertEqual(self.clock.elapsed_s, 1 + worker_pool._TERM_GRACE_S)

    def test_nor_is_one_waited_for_that_does_not_answer(self):
        self.behave(a=HANGS)
        self.world.answers = self.world.heeds_term = False
        self.script.at(1, self.signals.interrupt)
        self.run_all(self.items("a"))
        self.assertEqual(self.clock.elapsed_s, 1 + worker_pool._WHERE_S + worker_pool._TERM_GRACE_S)

    def test_twice_kills_at_once(self):
        self.behave(a=HANGS)
        self.world.answers = self.world.heeds_term = False
        self.script.at(1, self.signals.interrupt)
        self.script.at(1.5, self.signals.interrupt)
        records = self.run_all(self.items("a"))
        self.assertEqual(set(self.workers[0].signals), {signal.SIGKILL})
        self.assertEqual(self.clock.elapsed_s, 1.5)
        self.assertIn("RunStopped", records["a"].troubles[0].text)

    def test_a_failure_is_not_retried(self):
        self.behave(a=Behaviour(fails=1))
        self.world.heeds_term = False
        self.script.at(0.5, self.signals.interrupt)
        records = self.run_all(self.items("a"), retries=1)
        self.assertEqual((records["a"].status, records["a"].earlier), (FAILED, []))
        self.assertEqual(self.observer.of("failed_once"), [])
        self.assertEqual(len(self.world.runs), 1)

    def test_one_that_is_stopped_in_the_tear_down_of_its_class_keeps_its_result(self):
        self.behave(a=Behaviour(after_s=30.0))
        self.script.at(2, self.signals.interrupt)
        records = self.run_all(self.items("a"))
        self.assertEqual(self.statuses(records), {"a": PASSED})

    def test_one_that_has_not_ended_has_no_result_of_the_test_before(self):
        self.behave(b=HANGS)
        self.script.at(3, self.signals.interrupt)
        records = self.run_all(self.items("a", "b"))
        self.assertEqual(self.statuses(records), {"a": PASSED, "b": FAILED})

    def test_one_that_begins_meanwhile_is_ended(self):
        """It began before it heard that it should not, and may have missed the first signal."""
        self.behave(a=Behaviour(start_s=1.0, seconds=None))
        self.world.heeds_term = False
        self.script.at(0.5, self.signals.interrupt)
        self.run_all(self.items("a"), limit_s=100.0)
        wanted = [signal.SIGTERM, signal.SIGTERM, signal.SIGKILL]
        self.assertEqual(self.workers[0].signals, wanted)
        self.assertEqual(self.clock.elapsed_s, 1 + worker_pool._TERM_GRACE_S)

    def test_the_end_of_a_worker_is_not_complained_of(self):
        self.world.leaves = 3
        self.script.at(0.5, self.signals.interrupt)
        self.world.heeds_term = False
        records = self.run_all(self.items("a"))
        self.assertEqual(self.statuses(records), {"a": PASSED})


class TestEnoughFailures(WorkerPoolTestCase):
    def test_nothing_more_begins_and_what_runs_goes_on(self):
        self.behave(a=Behaviour(fails=1), b=Behaviour(seconds=3.0))
        records = self.run_all(self.items("a", "b", "c"), jobs=2, max_fail=1)
        self.assertEqual(self.pool.stopped, "enough failures")
        self.assertEqual(self.statuses(records), {"a": FAILED, "b": PASSED})
        self.assertEqual([worker.signals for worker in self.workers], [[], []])

    def test_those_that_a_worker_has_been_given_are_dropped(self):
        self.behave(a=Behaviour(fails=1))
        records = self.run_all(self.items("a", "x"), self.items("b"), jobs=1, max_fail=1)
        self.assertEqual(self.statuses(records), {"a": FAILED})

    def test_what_fails_then_is_not_retried(self):
        self.behave(a=Behaviour(fails=2), b=Behaviour(seconds=3.0, fails=1))
        records = self.run_all(self.items("a", "b"), jobs=2, max_fail=1, retries=1)
        self.assertEqual(self.statuses(records), {"a": FAILED, "b": FAILED})
        self.assertEqual([run[1] for run in self.world.runs], ["a", "b", "a"])

    def test_it_is_still_possible_to_interrupt(self):
        self.behave(a=Behaviour(fails=1), b=HANGS)
        self.script.at(5, self.signals.interrupt)
        records = self.run_all(self.items("a", "b"), jobs=2, max_fail=1)
        self.assertEqual(self.pool.stopped, "interrupted")
        self.assertIn("RunStopped", records["b"].troubles[0].text)
        self.assertEqual(self.clock.elapsed_s, 5)


class TestSuspension(WorkerPoolTestCase):
    """The user suspends the run for a minute, two seconds after its start."""

    def setUp(self):
        super().setUp()
        self.script.at(2, self.signals.ctrl_z)

        def suspended():
            self.clock.time += 60

        self.signals.suspended = suspended

    def test_workers_stop_and_no_time_runs_out(self):
        self.behave(a=Behaviour(seconds=64.0))
        records = self.run_all(self.items("a"), limit_s=5.0)
        self.assertEqual(records["a"].status, PASSED)
        self.assertEqual(self.workers[0].signals, [signal.SIGSTOP, signal.SIGCONT])
        kinds = [name for name, _ in self.observer.events]
        self.assertEqual(kinds, ["began", "hide", "show", "ended", "done"])

    def test_the_rest_of_the_time_counts_afterwards(self):
        self.behave(a=HANGS)
        self.run_all(self.items("a"), limit_s=5.0)
        self.assertEqual(self.clock.elapsed_s, 65)


class TestQuestions(WorkerPoolTestCase):
    def test_each_running_test_is_shown(self):
        self.behave(a=Behaviour(seconds=3.0), b=Behaviour(seconds=3.0))
        self.script.at(2, self.signals.question)
        self.run_all(self.items("a", "b"), jobs=2)
        self.assertEqual(
            self.observer.of("say"),
            ["m.C.a, for 2.0 s:\n  worker 1 runs", "m.C.b, for 2.0 s:\n  worker 2 runs"],
        )

    def test_a_worker_that_runs_nothing_is_not(self):
        self.behave(a=Behaviour(seconds=3.0), b=Behaviour(seconds=1.0))
        self.script.at(2, self.signals.question)
        self.run_all(self.items("a", "b"), jobs=2)
        self.assertEqual(self.observer.of("say"), ["m.C.a, for 2.0 s:\n  worker 1 runs"])

    def test_a_question_ends_nothing(self):
        self.script.at(0.5, self.signals.question)
        records = self.run_all(self.items("a"))
        self.assertEqual(records["a"].status, PASSED)
        self.assertEqual(self.workers[0].signals, [])
