"""Ranks that assert together, ranks to which something is done, functions run on ranks."""

from __future__ import annotations

import sys
import unittest

import torch
import torch.distributed as dist

from harness import RanksDiedError, RanksRaisedError, RanksTimedOutError, run_on_ranks
from harness.ranks.messages import MeetingAnswer
from harness.ranks.watch.meetings import Meetings
from suites.samples import together
from suites.selftest.support import CommandTestCase, run_case


class TestMeetings(unittest.TestCase):
    def test_everybody_comes(self):
        meetings = Meetings(2)
        self.assertEqual(meetings.arrive(1, "here", "b"), {})
        self.assertEqual(
            meetings.arrive(0, "here", "a"), dict.fromkeys((0, 1), MeetingAnswer(0, ("a", "b")))
        )
        self.assertEqual(meetings.arrive(0, "there", "c"), {})

    def test_what_all_bring_alike_travels_once(self):
        meetings = Meetings(3)
        for rank in (0, 1):
            meetings.arrive(rank, "here", "same")
        answer = meetings.arrive(2, "here", "same")[0]
        self.assertEqual((answer.values, answer.all_values), (("same",), ("same",) * 3))

    def test_alone(self):
        self.assertEqual(Meetings(1).arrive(0, "here", "a"), {0: MeetingAnswer(0, ("a",))})

    def test_somebody_leaves(self):
        meetings = Meetings(3)
        meetings.arrive(0, "here", "")
        (answer,) = meetings.leave(2).values()
        self.assertEqual(answer.error, "rank 2 ended the test without calling here")
        self.assertEqual(list(meetings.arrive(1, "there", "")), [1])

    def test_called_off(self):
        meetings = Meetings(2)
        self.assertEqual(meetings.arrive(0, "here", ""), {})
        self.assertEqual(meetings.cancel("the end"), {0: MeetingAnswer(0, error="the end")})
        # Nor may a rank that comes afterwards wait: nobody will call the meeting off again.
        self.assertEqual(meetings.arrive(1, "here", ""), {1: MeetingAnswer(0, error="the end")})

    def test_somebody_comes_elsewhere(self):
        meetings = Meetings(3)
        meetings.arrive(0, "here", "")
        meetings.arrive(1, "here", "")
        answers = meetings.arrive(2, "there", "")
        self.assertEqual(sorted(answers), [0, 1, 2])
        self.assertEqual(answers[0].error, "rank 2 called there while ranks 0 and 1 waited in here")


class TestAssertions(unittest.TestCase):
    def check(self, method, status, *words):
        for cls in (together.InProcesses, together.InThreads):
            with self.subTest(cls.__name__):
                result = run_case(cls, method)
                self.assertEqual(result.status, status, result.text)
                for word in words:
                    self.assertIn(word, result.text)

    def test_they_pass_together(self):
        for method in ("test_equal", "test_agree", "test_agree_nearly", "test_caught_by_all"):
            self.check(method, "passed")

    def test_they_fail_together(self):
        self.check(
            "test_one_differs",
            "failed",
            "3 of 3 ranks failed",
            "ranks 0-2: AssertionError: assertEqualOnAllRanks: rank 1 of 3 differs",
            "rank 1: Tensor-likes are not close!",
            "Mismatched elements: 1 / 2",
        )
        self.check(
            "test_all_differ", "failed", "every rank differs", "ranks 0-2: Scalars are not equal!"
        )

    def test_they_disagree(self):
        self.check(
            "test_disagree",
            "failed",
            "ranks 0-2: AssertionError: assertRanksAgree: rank 2 of 3 differs",
            "rank 2: this rank's value (left) is not rank 0's",
        )

    def test_a_rank_that_does_not_come(self):
        said = " ended the test without calling assertRanksAgree"
        self.check("test_one_leaves", "error", "2 of 3 ranks raised", "rank 1 passed", said)
        self.check(
            "test_one_fails",
            "error",
            "rank 1: ValueError: early",
            "(ranks 0 and 2 lost their peer)",
        )

    def test_two_assertions_at_once(self):
        self.check("test_two_meetings", "error", "harness.PeerLeftError: ", " called assert")

    def test_a_rank_in_a_collective(self):
        self.check(
            "test_one_waits_elsewhere", "error", "deadlocked", "rank 0: waiting in assertRanksAgree"
        )


class TestSabotage(unittest.TestCase):
    def check(self, method, status, *words, cls=together.Survivors):
        result = run_case(cls, method)
        self.assertEqual(result.status, status, result.text)
        for word in words:
            self.assertIn(word, result.text)

    def test_as_the_test_says(self):
        for method in ("killed", "killed_and_seen_to", "stopped", "delayed", "two", "in_backward"):
            with self.subTest(method):
                self.check(f"test_{method}", "passed")

    def test_survivors_that_see_something_else(self):
        self.check("test_killed_and_not_seen_to", "error", "rank 1 killed by @kill_rank")
        self.check("test_other_error", "error", "rank 1 killed by @kill_rank", "RuntimeError")

    def test_what_never_happens(self):
        self.check(
            "test_never",
            "error",
            "harness.ChaosError: rank 1 should have been hit by @kill_rank at its collective 9, "
            "but it made only 2",
        )

    def test_what_cannot_be(self):
        self.check("test_no_such_rank", "error", "@kill_rank(rank=7): the world has 3 ranks")
        self.check("test_killed", "error", "ranks that are processes", cls=together.ThreadSurvivors)


class TestVariants(unittest.TestCase):
    def test_each_is_a_test(self):
        names = unittest.TestLoader().getTestCaseNames(together.Variants)
        sizes, backends = (1, 2, 4), ("gloo", "nccl", "nobody")
        expected = {f"test_sum_world_size_{n}_{b}" for n in sizes for b in backends}
        self.assertEqual(set(names), expected)
        self.assertEqual(run_case(together.Variants, "test_sum_world_size_2_gloo").status, "passed")

    def test_a_backend_that_is_not_there(self):
        result = run_case(together.Variants, "test_sum_world_size_2_nobody")
        self.assertEqual(
            (result.status, result.text), ("skipped", "torch was built without the nobody backend")
        )


def total(x):
    t = torch.tensor([x + dist.get_rank()])
    dist.all_reduce(t)
    return t.item()


class TestRunOnRanks(CommandTestCase):
    def test_values(self):
        self.assertEqual(run_on_ranks(total, world_size=4, args=(10,)), [46] * 4)
        factor = 3
        found = run_on_ranks(lambda by: factor * by, 2, kwargs={"by": 7}, backend=None)
        self.assertEqual(found, [21, 21])

    def test_ranks_that_stay(self):
        def pid():
            import os

            return os.getpid()

        first = run_on_ranks(pid, 2, isolation="group")
        self.assertEqual(run_on_ranks(pid, 2, isolation="none"), first)
        self.assertNotEqual(run_on_ranks(pid, 2), first)

    def test_errors(self):
        def fail():
            raise KeyError("missing") if dist.get_rank() else ValueError("first")

        with self.assertRaises(RanksRaisedError) as raised:
            run_on_ranks(fail, 2)
        self.assertIn("rank 0: ValueError: first", str(raised.exception))
        self.assertIn("rank 1: KeyError: 'missing'", str(raised.exception))
        self.assertNotIn("rerun:", str(raised.exception))

    def test_a_rank_that_dies(self):
        def die():
            import os

            os.kill(os.getpid(), 9)

        with self.assertRaisesRegex(RanksDiedError, "killed by SIGKILL"):
            run_on_ranks(die, 2)

    def test_a_rank_that_hangs(self):
        with self.assertRaisesRegex(RanksTimedOutError, "after 0.5 s"):
            run_on_ranks(_hang, 1, timeout_s=0.5)

    def test_a_script(self):
        self.write(
            "script.py",
            """
            from harness import run_on_ranks

            def double(x):
                return x * 2

            print(run_on_ranks(double, world_size=3, args=("ab",)))
            """,
        )
        finished = self.run_command(sys.executable, "script.py")
        self.assertEqual((finished.out, finished.code), ("['abab', 'abab', 'abab']\n", 0))
        self.assert_clean(finished)

    def test_standard_input(self):
        # As in a notebook, there is no file that a rank could import.
        finished = self.run_command(
            sys.executable,
            "-c",
            "from harness import run_on_ranks; print(run_on_ranks(lambda: 5, 2))",
        )
        self.assertEqual((finished.out, finished.code), ("[5, 5]\n", 0), finished.err)


def _hang():
    import time

    while True:
        time.sleep(100)
