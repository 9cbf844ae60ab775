"""Which tests run, in which order, how often: selection, history, shards, retries, lists."""

from __future__ import annotations

import io
import json
import re
import sqlite3
import unittest
from pathlib import Path

import hypothesis
from _pytest.mark.expression import Expression
from hypothesis import given
from hypothesis import strategies as st

from harness.model.clock import now
from harness.model.errors import UsageError
from harness.runner.console import Console
from harness.runner.results import Status, TestRecord
from harness.runner.selection.expressions import matcher
from harness.runner.selection.planned_test import PlannedTest
from harness.runner.workers.schedule import Item
from suites.selftest.support import CommandTestCase

FLAKY = """
    import os, unittest
    from pathlib import Path

    class TestFlaky(unittest.TestCase):
        def test_always_fails(self):
            self.fail("as ever")

        def test_fails_once(self):
            mark = Path(os.environ["OUT"], "been here")
            if not mark.exists():
                mark.touch()
                self.fail("the first time")

        def test_fine(self):
            pass
"""

FLAKY_RANKS = """
    import os
    from pathlib import Path
    from harness import MultiProcContinuousTest

    class TestFlakyRanks(MultiProcContinuousTest):
        world_size = 2
        def test_fails_once(self):
            mark = Path(os.environ["OUT"], f"pid of rank {self.rank}")
            known = mark.exists()
            if known:  # a fresh process
                self.assertNotEqual(mark.read_text(), str(os.getpid()))
            mark.write_text(str(os.getpid()))
            self.assertTrue(known)
        def test_fine(self):
            pass
"""

NUMBERS = """
    import os, unittest
    class TestNumbers(unittest.TestCase): pass
    def test(self):
        if os.environ.get("OUT"):
            with open(os.environ["OUT"], "a") as file:
                print(self._testMethodName, file=file)
        if self._testMethodName in os.environ.get("BAD", "").split():
            self.fail("as told")
    for i in range(10):
        setattr(TestNumbers, f"test_{i}", lambda self: test(self))
"""


class TestExpressions(unittest.TestCase):
    def test_what_matches(self):
        for pattern, yes, no in (
            ("cpu", "m.C.test_cpu", "m.C.test_gpu"),
            ("cpu and float32", "m.C.test_cpu_float32", "m.C.test_cpu_float64"),
            ("cpu or gpu", "m.C.test_gpu", "m.C.test_tpu"),
            ("not cpu", "m.C.test_gpu", "m.C.test_cpu"),
            ("cpu and not (float32 or int8)", "m.cpu_float64", "m.cpu_int8"),
            ("not a and not b or c", "m.a.c", "m.a"),
            ("*.TestDDP.*", "m.TestDDP.test", "m.TestDDPX"),
            ("*cpu and test_*", "test_cpu", "test_cpu_2"),
            ("world_size[2]", "m.test_world_size[2]", "m.test_world_size2"),
            ("android", "m.android", "m.and"),
            ("test_x?", "m.test_x?", "m.test_xy"),
            ("CPU and not TestC", "m.test_cpu", "m.testc.test_cpu"),
            ("*CPU", "m.Test_Cpu", "m.test_cpu_2"),
            ("not(a)and(b)", "m.b", "m.a.b"),
            ("None", "m.test_none", "m.test_no"),
            ("test(x)", "m.test(x)", "m.test(y)"),
            ('"test_p0 (1, 2)" or gpu', "m.test_p0 (1, 2)", "m.test_p0 (1, 3)"),
            ("'a and b'", "m.a and b", "m.a.b"),
            ("don't", "m.don't", "m.dont"),
            (" and ".join(["a"] * 10_000), "m.a", "m.b"),
        ):
            with self.subTest(pattern=pattern):
                matches = matcher(pattern)
                self.assertTrue(matches(yes))
                self.assertFalse(matches(no))

    def test_what_cannot_be_read(self):
        for pattern, why in (
            ("", "at character 1: '>>>': a name is missing"),
            (" ", "a name is missing"),
            ("cpu and", "at character 8: 'cpu and>>>': a name is missing"),
            ("and cpu", "at character 1: '>>>and cpu': a name is missing"),
            ("(cpu", "at character 5: '(cpu>>>': the '(' at character 1 is not closed"),
            ("cpu)  and x", "at character 4: 'cpu>>>)  and x': ')' closes nothing"),
            ("foo)", "at character 4: 'foo>>>)': ')' closes nothing"),
            ("()", "a name is missing"),
            ("not", "a name is missing"),
            ("a b and c", "at character 3: 'a >>>b and c': 'and' or 'or' is missing"),
            ("a b", "quote a name that has spaces"),
            ('a or  "', "at character 7: 'a or  >>>\"': a quote is not closed"),
            ('""', "a name is missing"),
            ("(" * 10_000, "nested more than 100 levels deep"),
            ("not " * 10_000, "nested more than 100 levels deep"),
            ("x" * 10_000 + ")", "…" + "x" * 40 + ">>>)"),
        ):
            with self.subTest(pattern=pattern[:20]):
                with self.assertRaises(UsageError) as caught:
                    matcher(pattern)
                self.assertIn(why, str(caught.exception))
                self.assertLess(len(str(caught.exception)), 200)

    @hypothesis.settings(max_examples=200, deadline=None)
    @given(
        st.recursive(
            st.text("abAB_.[]-:+1", min_size=1, max_size=3),
            lambda part: st.one_of(
                st.builds("{} and {}".format, part, part),
                st.builds("{} or {}".format, part, part),
                st.builds("not {}".format, part),
                st.builds("({})".format, part),
            ),
        ),
        st.text("abAB_.[]-:+1 ", max_size=10),
    )
    def test_what_pytest_reads_means_the_same(self, pattern, test_id):
        expected = Expression.compile(pattern).evaluate(
            lambda name, **_: name.lower() in test_id.lower()
        )
        self.assertEqual(matcher(pattern)(test_id), expected)

    @hypothesis.settings(max_examples=1000, deadline=None)
    @given(
        st.lists(st.sampled_from(["a", "B", "and", "or", "not", "(", ")", " ", "  "])).map("".join),
        st.text("ab ", max_size=5),
    )
    def test_what_pytest_reads_of_any_text_can_be_read(self, pattern, test_id):
        try:
            expression = Expression.compile(pattern)
        except SyntaxError:  # in pytest 9, also its own error of usage
            return  # most texts; rejecting them would fail Hypothesis's health check
        if not pattern.strip():
            return  # to pytest, an expression that nothing matches
        expected = expression.evaluate(lambda name, **_: name.lower() in test_id.lower())
        self.assertEqual(matcher(pattern)(test_id), expected)


class TestRetries(CommandTestCase):
    def test_flaky_and_failing(self):
        self.write("test_flaky.py", FLAKY)
        done = self.harness("--retries", "2", "--junit", "r.xml", OUT=str(self.folder))
        self.assertEqual((done.code, done.last_line), (1, "2 passed, 1 failed, 0 skipped"))
        self.assertIn("test_flaky.TestFlaky Ff.", done.out)
        self.assertIn("failed all 3 attempts", done.out)
        self.assertRegex(done.out, r"flaky \(failed, then passed\):\n  .*test_fails_once")
        self.assertIn("the first time", done.out)
        xml = (self.folder / "r.xml").read_text()
        self.assertIn("flakyFailure", xml)
        self.assertIn("rerunFailure", xml)

    def test_flaky_may_fail_the_run(self):
        self.write("test_flaky.py", FLAKY)
        for value, code in (("fail", 1), ("pass", 0)):
            done = self.harness(
                "--retries", "1", "--flaky", value, "-k", "once", OUT=str(self.folder)
            )
            self.assertEqual((done.code, done.last_line), (code, "1 passed, 0 failed, 0 skipped"))
            why = "flaky tests: 1, and --flaky fail: the run fails\n1 passed"
            self.assertEqual(why in done.out, code == 1, done.out)
            (self.folder / "been here").unlink()

    def test_an_attempt_that_has_failed_runs_no_more(self):
        out = io.StringIO()
        console = Console(stream=out)
        first = Item(0, PlannedTest("m.T.test", "m.T"))
        console.began(first, 1, now())
        console.failed_once(first, TestRecord("m.T.test", Status.FAILED))
        self.assertEqual(list(console.running), [])
        console.began(first.next_attempt(), 1, now())
        self.assertEqual(list(console.running), [first.next_attempt()])
        console.done(first.next_attempt())
        self.assertEqual(list(console.running), [])

    def test_in_fresh_ranks(self):
        self.write("test_flaky.py", FLAKY_RANKS)
        done = self.harness("-j", "1", "--retries", "1", OUT=str(self.folder))
        self.assertEqual((done.code, done.last_line), (0, "2 passed, 0 failed, 0 skipped"))
        self.assertIn("flaky", done.out)
        self.assert_clean(done)


class TestOrder(CommandTestCase):
    def order(self, *arguments, **env):
        out = self.folder / "order.txt"
        out.unlink(missing_ok=True)
        self.done = self.harness("-j", "1", *arguments, OUT=str(out), **env)
        return out.read_text().split() if out.exists() else []

    def setUp(self):
        super().setUp()
        self.write("test_numbers.py", NUMBERS)

    def test_shuffle(self):
        plain = self.order()
        self.assertEqual(plain, sorted(plain))
        first = self.order("--shuffle", "--seed", "1")
        self.assertIn("shuffled with --seed 1", self.done.out)
        self.assertEqual(first, self.order("--shuffle", "--seed", "1"))
        other = self.order("--shuffle", "--seed", "2")
        self.assertEqual(sorted(first), plain)
        self.assertEqual(len({tuple(plain), tuple(first), tuple(other)}), 3)

    def test_repeat(self):
        self.assertEqual(len(self.order("--repeat", "3")), 30)
        self.assertEqual(self.done.last_line, "30 passed, 0 failed, 0 skipped")
        self.order("--repeat", "2", BAD="test_4")
        self.assertEqual(self.done.last_line, "18 passed, 2 failed, 0 skipped")
        self.assertIn("TestNumbers.test_4 (round 2)", self.done.out)

    def test_stress(self):
        ran = self.order("--stress", "0.5")
        self.assertGreaterEqual(len(ran), 20)
        self.assertEqual(len(ran) % 10, 0)
        self.assertEqual(self.done.code, 0)

    def test_rerun_failed_and_failed_first(self):
        self.order(BAD="test_3 test_7")
        self.assertEqual(self.order("--rerun-failed", BAD="test_3"), ["test_3", "test_7"])
        self.assertIn("2 of 10 tests failed when they ran last", self.done.out)
        first = self.order("--failed-first")
        self.assertEqual(first[:2], ["test_3", "test_0"])
        self.assertEqual(self.order("--rerun-failed"), [])
        self.assertEqual(self.done.code, 5)

    def test_shards_cover_each_test_once(self):
        parts = [self.order("--shard", f"{k}/3") for k in (1, 2, 3)]
        self.assertEqual(sorted(name for part in parts for name in part), sorted(self.order()))
        self.assertTrue(all(len(part) in {3, 4} for part in parts))
        listed = [self.harness("--list", "--shard", f"{k}/3").out.split() for k in (1, 2, 3)]
        self.assertEqual(len({name for part in listed for name in part}), 10)
        self.assertEqual(sum(map(len, listed)), 10)

    def test_shards_of_one_machine_share_their_history(self):
        """What the first shard records does not change what the second one runs."""
        for _ in range(2):
            plans = set()
            for k in (1, 2, 3):
                self.order("--shard", f"{k}/3")
                plans.add(re.search(r"plan (\w+)", self.done.out)[1])
            self.assertEqual(len(plans), 1)

    def test_lists_of_pytorchs(self):
        disabled = self.write(
            "disabled.json", json.dumps({"test_1 (__main__.TestNumbers)": ["a/1", []]})
        )
        slow = self.write("slow.json", json.dumps({"test_2 (__main__.TestNumbers)": 99.0}))
        files = {"DISABLED_TESTS_FILE": str(disabled), "SLOW_TESTS_FILE": str(slow)}
        ran = self.order(**files)
        self.assertEqual(self.done.last_line, "8 passed, 0 failed, 2 skipped")
        self.assertNotIn("test_1", ran)
        self.assertNotIn("test_2", ran)
        self.assertIn("disabled: a/1", self.done.out)
        self.assertIn("TestNumbers .ss.......", self.done.out)
        self.order(**files, PYTORCH_TEST_WITH_SLOW="1")
        self.assertEqual(self.done.last_line, "9 passed, 0 failed, 1 skipped")
        self.write("slow.json", "{broken")
        self.order(**files)
        self.assertEqual(self.done.last_line, "9 passed, 0 failed, 1 skipped")
        self.assertEqual(len(self.done.err.splitlines()), 1, self.done.err)


class TestHistory(CommandTestCase):
    def setUp(self):
        super().setUp()
        self.write("test_numbers.py", NUMBERS)

    def test_is_kept_and_shown(self):
        done = self.harness("--history", "past.sqlite", BAD="test_5")
        self.assertEqual(done.code, 1)
        shown = self.harness_here("history", "--history", "past.sqlite")
        self.assertEqual(shown.code, 0)
        self.assertIn("test_numbers.TestNumbers.test_5", shown.out)
        as_json = self.harness_here("history", "--history", "past.sqlite", "--json")
        self.assertIsInstance(json.loads(as_json.out), dict)

    def test_in_the_cache_unless_unwanted(self):
        cache = Path(self.sandbox.base, "cache")
        self.harness("--no-history")
        self.assertEqual(list(cache.rglob("*.sqlite")), [])
        self.harness()
        self.assertEqual(len(list(cache.rglob("*.sqlite"))), 1)

    def test_a_bad_file_breaks_nothing(self):
        (self.folder / "bad.sqlite").write_bytes(b"this is no database" * 1000)
        done = self.harness("--history", "bad.sqlite")
        self.assertEqual((done.code, done.last_line), (0, "10 passed, 0 failed, 0 skipped"))
        self.assertEqual(len(done.err.splitlines()), 1, done.err)
        self.assertIn("bad.sqlite", done.err)
        self.assertEqual(self.harness_here("history", "--history", "bad.sqlite").code, 2)

    def test_long_tests_start_first(self):
        self.harness("--history", "past.sqlite")
        with sqlite3.connect(self.folder / "past.sqlite") as past:
            tables = {row[0] for row in past.execute("SELECT name FROM sqlite_master")}
        self.assertTrue(tables)


class TestContradictions(CommandTestCase):
    def test_each_says_what_is_wrong(self):
        self.write("test_numbers.py", NUMBERS)
        (self.folder / "folder").mkdir()
        for arguments, text in (
            (["-j", "0", "--retries", "1"], "--retries needs worker processes"),
            (["-j", "0", "--test-timeout", "1"], "--test-timeout needs worker processes"),
            (["-j", "-1"], "must be a whole number from 0"),
            (["-j", "x"], "must be a whole number from 0"),
            (["--repeat", "2", "--stress", "3"], "both set how often tests run"),
            (["--repeat", "0"], "must be a whole number from 1"),
            (["--rerun-failed", "--failed-first"], "only failed tests run"),
            (["--failed-first", "--shuffle"], "both set the order"),
            (["--no-history", "--rerun-failed"], "--no-history"),
            (["--flaky", "fail"], "needs --retries"),
            (["--flaky", "maybe"], "invalid choice"),
            (["--shard", "4/3"], "is not K/N"),
            (["--shard", "3"], "is not K/N"),
            (["--list", "--junit", "x.xml"], "--list runs no tests"),
            (["--junit", "folder"], "--junit"),
            (["--html", "no/such/folder/x.html"], "--html"),
            (["--trace", "/proc/version/x"], "--trace"),
            (["--junit", "same", "--html", "same"], "both"),
            (["-k", "a and"], "cannot be read"),
            (["--run-timeout", "0"], "positive number of seconds"),
        ):
            with self.subTest(arguments=arguments):
                done = self.harness(*arguments)
                self.assertEqual((done.code, done.out), (2, ""))
                self.assertIn(text, done.err)
                self.assertEqual(len(done.err.splitlines()), 1, done.err)
                self.assert_clean(done)
