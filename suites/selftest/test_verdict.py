"""From outcomes to the verdict: every outcome at every place among the ranks."""

from __future__ import annotations

import typing
import unittest

from harness.model.outcome import (
    Deadlocked,
    Ended,
    Exited,
    Failed,
    Killed,
    Lost,
    Outcome,
    Passed,
    Problem,
    Raised,
    Sabotaged,
    Skipped,
    SubTest,
    TimedOut,
)
from harness.model.rank_report import RankReport, Tail
from harness.model.verdict import TEST_FAULTS, ExitRule, VerdictKind, by_subtest, is_echo, judge

SIZE = 4


def assertion(message="no", subtest=None):
    return Problem("AssertionError", message, "tb " + message, True, subtest=subtest)


def error(message="no", type_name="ValueError", subtest=None):
    return Problem(type_name, message, "tb " + message, False, subtest=subtest)


ECHO = Raised((error("gloo: Connection closed by peer [127.0.0.1]:1", "RuntimeError"),))

# An outcome of each kind and the verdict when one rank has it and the others have passed.
ALONE = {
    Passed(): VerdictKind.PASSED,
    Failed((assertion(),)): VerdictKind.FAILED,
    Raised((error(),)): VerdictKind.RAISED,
    Raised((assertion(), error())): VerdictKind.RAISED,
    Skipped("why"): VerdictKind.DISAGREED,
    Exited(3): VerdictKind.DIED,
    Exited(0): VerdictKind.DIED,
    Exited(5, after_body=True): VerdictKind.DIED,
    Killed(9): VerdictKind.DIED,
    Killed(11, after_body=True): VerdictKind.DIED,
    TimedOut("start", 1): VerdictKind.TIMED_OUT,
    TimedOut("body", 1): VerdictKind.TIMED_OUT,
    TimedOut("exit", 1): VerdictKind.TIMED_OUT,
    Deadlocked(2): VerdictKind.DEADLOCKED,
    Lost("gone"): VerdictKind.DIED,
    Ended(): VerdictKind.DISAGREED,
    Sabotaged("killed"): VerdictKind.PASSED,
}
PLACES = {"first": (0,), "last": (SIZE - 1,), "all": tuple(range(SIZE))}


def reports(outcomes, times=None):
    times = times or [1.0] * len(outcomes)
    return [
        RankReport(rank, outcome, at)
        for rank, (outcome, at) in enumerate(zip(outcomes, times, strict=True))
    ]


class TestMatrix(unittest.TestCase):
    def test_every_kind_is_in_the_table(self):
        self.assertEqual({type(o) for o in ALONE}, set(typing.get_args(Outcome)))

    def test_one_kind_of_outcome(self):
        for outcome, expected in ALONE.items():
            for name, ranks in PLACES.items():
                with self.subTest(outcome=outcome, place=name):
                    outcomes = [outcome if r in ranks else Passed() for r in range(SIZE)]
                    verdict = judge(reports(outcomes))
                    if isinstance(outcome, Skipped) and name == "all":
                        expected = VerdictKind.SKIPPED
                    if isinstance(outcome, Sabotaged) and name == "all":
                        expected = VerdictKind.DISAGREED  # nobody has run the body to its end
                    self.assertIs(verdict.kind, expected)
                    blamed = () if not verdict.is_trouble else ranks
                    self.assertEqual(verdict.culprits, blamed)

    def test_only_all_passed_is_a_pass(self):
        for outcome in ALONE:
            for other in ALONE:
                with self.subTest(outcome=outcome, other=other):
                    verdict = judge(reports([outcome, other]))
                    good = (Passed, Sabotaged)  # but somebody has to have passed
                    passed = {type(outcome), type(other)} in ({Passed}, set(good))
                    self.assertEqual(verdict.kind is VerdictKind.PASSED, passed)
                    skipped = isinstance(outcome, Skipped) and isinstance(other, Skipped)
                    self.assertEqual(verdict.kind is VerdictKind.SKIPPED, skipped)

    def test_any_order_of_reports(self):
        outcomes = [Passed(), Killed(9), Passed()]
        forward = judge(reports(outcomes))
        self.assertEqual(judge(list(reversed(reports(outcomes)))), forward)

    def test_no_ranks_is_no_pass(self):
        self.assertIs(judge([]).kind, VerdictKind.DISAGREED)

    def test_expected_failure_accepts_what_the_test_finds_out(self):
        self.assertEqual(
            TEST_FAULTS,
            {VerdictKind.FAILED, VerdictKind.RAISED, VerdictKind.MISCOMMUNICATED},
        )


class TestBlame(unittest.TestCase):
    def test_the_first_is_the_root_cause(self):
        verdict = judge(reports([Raised((error(),)), Killed(9), Failed((assertion(),))], [3, 1, 2]))
        self.assertEqual(verdict.culprits, (1, 2, 0))
        self.assertIs(verdict.kind, VerdictKind.DIED)

    def test_at_the_same_time_the_lower_rank_comes_first(self):
        verdict = judge(reports([Passed(), Killed(9), Killed(9)]))
        self.assertEqual(verdict.culprits, (1, 2))

    def test_the_worst_of_the_causes_names_the_verdict(self):
        verdict = judge(reports([Failed((assertion(),)), Raised((error(),))], [1, 2]))
        self.assertIs(verdict.kind, VerdictKind.RAISED)

    def test_an_echo_is_collateral_even_if_it_was_heard_first(self):
        for times in ([1, 2], [2, 1]):
            verdict = judge(reports([ECHO, Failed((assertion(),))], times))
            self.assertIs(verdict.kind, VerdictKind.FAILED)
            self.assertEqual(verdict.culprits, (1, 0))
            self.assertEqual(verdict.collateral, {0})

    def test_an_echo_without_a_cause_is_the_cause(self):
        verdict = judge(reports([ECHO, Passed()]))
        self.assertIs(verdict.kind, VerdictKind.RAISED)
        self.assertEqual(verdict.culprits, (0,))
        self.assertEqual(verdict.collateral, frozenset())

    def test_what_is_an_echo(self):
        self.assertTrue(is_echo(ECHO))
        for other in (
            Raised((error("Connection closed by peer", "ConnectionResetError"),)),
            Raised((error("bad value", "RuntimeError"),)),
            Raised((*ECHO.problems, error())),
            Failed((assertion("Connection closed by peer"),)),
            Killed(9),
        ):
            self.assertFalse(is_echo(other), other)

    def test_a_rank_that_was_ended_is_not_to_blame(self):
        verdict = judge(reports([Ended(), Killed(9)]))
        self.assertEqual(verdict.culprits, (1,))

    def test_a_fault_outweighs_a_skip(self):
        verdict = judge(reports([Skipped("a"), Failed((assertion(),))]))
        self.assertIs(verdict.kind, VerdictKind.FAILED)

    def test_reasons_that_differ(self):
        verdict = judge(reports([Skipped("a"), Skipped("b"), Skipped("a")]))
        self.assertIs(verdict.kind, VerdictKind.SKIPPED)
        self.assertEqual(verdict.reason, "rank 0, 2: a; rank 1: b")


class TestExitRules(unittest.TestCase):
    def kind(self, outcomes, **rule):
        return judge(reports(outcomes), ExitRule(**rule)).kind

    def test_expected_code(self):
        passed, died = VerdictKind.PASSED, VerdictKind.DIED
        self.assertIs(self.kind([Exited(7), Passed()], expected_code=7), passed)
        self.assertIs(self.kind([Exited(7), Exited(7)], expected_code=7), passed)
        self.assertIs(self.kind([Killed(6), Passed()], expected_code=-6), passed)
        self.assertIs(self.kind([Exited(7), Exited(8)], expected_code=7), died)
        self.assertIs(self.kind([Killed(6), Passed()], expected_code=6), died)

    def test_rank_0_must_end_so(self):
        self.assertIsNot(self.kind([Passed(), Exited(7)], expected_code=7), VerdictKind.PASSED)

    def test_any_code(self):
        self.assertIs(self.kind([Exited(7), Killed(9)], any_code=True), VerdictKind.PASSED)

    def test_any_code_accepts_no_exception_and_no_timeout(self):
        for outcome in (Raised((error(),)), TimedOut("body", 1), Lost("gone")):
            self.assertIsNot(self.kind([outcome, Passed()], any_code=True), VerdictKind.PASSED)


class TestSubTests(unittest.TestCase):
    def test_one_verdict_for_each(self):
        first, second = SubTest("msg", (("i", "1"),)), SubTest(None, (("i", "2"),))
        log = Tail(("printed",), 1, 8)
        verdict = judge(
            [
                RankReport(0, Failed((assertion("a", first), assertion("b", second))), 1, 7, log),
                RankReport(1, Raised((error("c", subtest=second), assertion("d"))), 2, 8, log),
            ]
        )
        parts = by_subtest(verdict)
        self.assertEqual(list(parts), [first, second, None])
        self.assertEqual([p.culprits for p in parts.values()], [(0,), (0, 1), (1,)])
        kinds = [VerdictKind.FAILED, VerdictKind.RAISED, VerdictKind.FAILED]
        self.assertEqual([p.kind for p in parts.values()], kinds)
        # Logs are shown once.
        self.assertEqual(parts[first].reports[0].stdout, log)
        self.assertEqual(parts[second].reports[0].stdout, Tail())

    def test_as_unittest_prints_them(self):
        self.assertEqual(str(SubTest("m", (("i", "1"), ("n", "'x'")))), "[m] (i=1, n='x')")
        self.assertEqual(str(SubTest(None)), "(<subtest>)")

    def test_exits_that_are_meant_stay_so(self):
        wanted = RankReport(0, Exited(15), 1)
        verdict = judge([wanted, RankReport(1, Raised((error(),)), 2)], ExitRule(15))
        (part,) = by_subtest(verdict).values()
        self.assertIs(part.kind, VerdictKind.RAISED)
        self.assertEqual(part.culprits, (1,))
