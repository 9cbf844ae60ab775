"""No test is lost: each one is in the report, and a run that misses one has failed."""

from __future__ import annotations

import contextlib
import io
import json
import sys
import unittest
from typing import Any
from unittest import mock

from harness.runner.execution import Execution
from harness.runner.ledger import Ledger
from harness.runner.options import EXIT_FAILED, EXIT_PASSED, Options
from harness.runner.results import RunResult, Status, TestRecord, record_from_data
from harness.runner.selection.planned_test import PlannedTest
from harness.runner.workers.schedule import Item
from harness.runner.workers.worker_spec import Wanted
from suites.selftest.support import CommandTestCase, Finished

MADE = """
    import unittest

    def make(limit):
        class TestMade(unittest.TestCase):
            def test_limit(self): self.assertLess(limit, 10)
        return TestMade

    TestA, TestB, TestC = make(100), make(1), make(200)
"""
MADE_ID = "test_made.make.<locals>.TestMade.test_limit"


class TestSameNames(CommandTestCase):
    def check(self, done: Finished, last_line: str, code: int = 1) -> None:
        self.assertEqual((done.last_line, done.code), (last_line, code), done.out + done.err)

    def test_each_report_tells_tests_with_one_id_apart(self) -> None:
        self.write("test_made.py", MADE)
        reports = ("--junit", "j.xml", "--records", "r.json", "--html", "h.html", "--trace", "t")
        self.check(self.harness("-j", "2", *reports), "1 passed, 2 failed, 0 skipped")
        records = json.loads((self.folder / "r.json").read_text())["records"]
        self.assertEqual([record.get("copy", 0) for record in records], [0, 1, 2])
        self.assertEqual({record["test_id"] for record in records}, {MADE_ID})
        for name in ("j.xml", "h.html", "t"):
            text = (self.folder / name).read_text()
            self.assertIn("test_limit #2", text, name)
            self.assertIn("test_limit #3", text, name)
        for name in ("j.xml", "r.json"):
            merged = self.harness_here("merge-reports", name)
            self.check(merged, "1 passed, 2 failed, 0 skipped")

    def test_listed_retried_and_remembered_each_by_itself(self) -> None:
        self.write("test_made.py", MADE)
        listed = self.harness("--list").out.splitlines()
        self.assertEqual(listed, [MADE_ID, f"{MADE_ID} #2", f"{MADE_ID} #3"])
        done = self.harness("-v", "--retries", "1", "--history", "past")
        self.check(done, "1 passed, 2 failed, 0 skipped")
        self.assertEqual(done.out.count("RETRY"), 2)
        self.assertNotIn("flaky", done.out)
        again = self.harness("-v", "--history", "past", "--rerun-failed")
        self.assertIn("2 of 3 tests failed when they ran last", again.out)
        self.check(again, "0 passed, 2 failed, 0 skipped")

    def test_shards_share_them_out(self) -> None:
        self.write("test_made.py", MADE)
        counts = []
        for number in (1, 2, 3):
            name = f"{number}.json"
            done = self.harness("--shard", f"{number}/3", "--records", name, "--no-history")
            counts.append(done.last_line)
        self.assertEqual(counts.count("0 passed, 1 failed, 0 skipped"), 2)
        self.assertEqual(counts.count("1 passed, 0 failed, 0 skipped"), 1)
        merged = self.harness_here("merge-reports", "1.json", "2.json", "3.json")
        self.check(merged, "1 passed, 2 failed, 0 skipped")
        self.assertNotIn("in several", merged.out)

    def test_a_name_given_twice_means_one_test(self) -> None:
        self.write("test_made.py", MADE)
        done = self.harness("test_made.py", "test_made", "TestMade", "--no-history")
        self.check(done, "1 passed, 2 failed, 0 skipped")

    def test_files_with_the_name_of_another(self) -> None:
        for folder, body in (("a", "self.fail('a')"), ("b", "self.assertEqual(beside.NAME, 'b')")):
            self.write(
                f"{folder}/test_x.py",
                f"import beside_{folder} as beside, unittest\n"
                f"class TestX(unittest.TestCase):\n    def test_x(self): {body}\n",
            )
            self.write(f"{folder}/beside_{folder}.py", f"NAME = {folder!r}\n")
        for jobs in ("0", "1", "4"):
            done = self.harness("a", "b", "-j", jobs, "--no-history")
            self.check(done, "1 passed, 1 failed, 0 skipped")
            self.assertIn("FAIL: a.test_x.TestX.test_x", done.out)
        again = self.harness("a.test_x.TestX.test_x", "--no-history")
        self.assertIn("FAIL: a.test_x.TestX.test_x", again.out)
        alone = self.harness("b", "--no-history")
        self.check(alone, "1 passed, 0 failed, 0 skipped", 0)

    def test_packages_with_the_name_of_another(self) -> None:
        for folder in ("a", "b"):
            self.write(f"{folder}/same/__init__.py", "")
            self.write(f"{folder}/same/test_x.py", "")
        done = self.harness("a/same", "b/same")
        self.assertEqual(done.code, 2)
        self.assertIn("these files are all module same.test_x", done.err)
        for folder in ("a", "b"):
            self.assertIn(str(self.folder / folder / "same" / "test_x.py"), done.err)

    def test_a_file_that_is_imported_as_another(self) -> None:
        self.write("test_x.py", "import unittest\nclass T(unittest.TestCase):\n  def test(self): 0")
        self.write("other/test_x.py", "")
        self.write("sitecustomize.py", "import sys\nsys.path.insert(0, 'other')\nimport test_x\n")
        for jobs in ("0", "1"):
            path = f"{self.folder}:{self.sandbox.environ({})['PYTHONPATH']}"
            done = self.harness("test_x.py", "-j", jobs, PYTHONPATH=path)
            self.check(done, "0 passed, 1 failed, 0 skipped")
            self.assertIn("but another file is imported by that name", done.out)

    def test_a_rank_never_runs_another_class_of_the_same_name(self) -> None:
        self.write(
            "test_ranks.py",
            """
            from harness import MultiProcessTestCase

            def make(limit):
                class TestMade(MultiProcessTestCase):
                    world_size = 2
                    def test_limit(self): self.assertLess(limit, 10)
                return TestMade

            TestSmall, TestLarge = make(1), make(100)

            class TestTwice(MultiProcessTestCase):
                world_size = 2
                def test_first(self): pass

            class Holder:
                first = TestTwice

            class TestTwice(MultiProcessTestCase):
                world_size = 2
                def test_second(self): pass

            def load_tests(loader, tests, pattern):
                tests.addTests(loader.loadTestsFromTestCase(Holder.first))
                return tests
            """,
        )
        done = self.harness("test_ranks.py", "--no-history")
        self.check(done, "2 passed, 2 failed, 0 skipped")
        self.assertIn("AssertionError: 100 not less than 10", done.out)
        self.assertIn(
            "a new process would find another class of the name TestTwice in module test_ranks",
            done.out,
        )


class TestOddEnds(CommandTestCase):
    """What unittest reports in no way, or in several."""

    SUITE = """
        import unittest

        class TestSilent(unittest.TestCase):
            def run(self, result=None): pass
            def test_silent(self): pass

        class TestStarts(unittest.TestCase):
            def run(self, result=None):
                result.startTest(self)
                result.stopTest(self)
            def test_starts(self): pass

        class TestTriesAgain(unittest.TestCase):
            tries = 0
            def run(self, result=None):
                super().run(result)
                super().run(result)
            def test_fails_first(self):
                TestTriesAgain.tries += 1
                self.assertEqual(TestTriesAgain.tries, 2)

        class TestLeaves(unittest.TestCase):
            @classmethod
            def tearDownClass(cls): raise SystemExit(0)
            def test_a(self): pass

        class TestLeavesAtOnce(unittest.TestCase):
            @classmethod
            def setUpClass(cls): raise SystemExit(0)
            def test_a(self): pass

        class TestZ(unittest.TestCase):
            def test_fine(self): pass
            @classmethod
            def tearDownClass(cls): raise SystemExit(0)
    """

    def test_none_passes(self) -> None:
        self.write("test_odd.py", self.SUITE)
        for jobs in ("0", "1", "4"):
            done = self.harness("-j", jobs, "--no-history", "-v")
            self.assertEqual(done.code, 1, done.out)
            for name in ("TestSilent.test_silent", "TestStarts.test_starts"):
                self.assertRegex(done.out, rf"failed .*{name}")
            self.assertIn("NoOutcome: unittest reported neither", done.out)
            self.assertRegex(done.out, r"failed .*TestTriesAgain.test_fails_first")
            self.assertRegex(done.out, r"failed .*setUpClass \(test_odd.TestLeavesAtOnce\)")
            self.assertRegex(done.out, r"failed .*tearDownClass \(test_odd.TestLeaves\)")
            self.assertRegex(done.out, r"passed .*TestZ.test_fine")
            self.assertRegex(done.out, r"failed .*tearDownClass \(test_odd.TestZ\)")
            self.assertIn("\n1 not run\n2 passed, 6 failed, 0 skipped", done.out)

    def test_a_module_that_gives_other_tests_to_each_process(self) -> None:
        self.write(
            "test_pid.py",
            """
            import os, unittest
            class TestA(unittest.TestCase): pass
            def load_tests(loader, tests, pattern):
                for i in range(3):
                    name = f"test_{os.getpid()}_{i}"
                    setattr(TestA, name, lambda self: None)
                    tests.addTest(TestA(name))
                return tests
            """,
        )
        done = self.harness("-j", "2", "--no-history", "--repeat", "2")
        total = sum(int(word) for word in done.last_line.split() if word.isdecimal())
        self.assertEqual(total, 6, done.out)
        self.assertNotIn("WorkerDied", done.out)


class TestSkips(CommandTestCase):
    SUITE = """
        import unittest
        class TestA(unittest.TestCase):
            def test_sub(self):
                for i in range(3):
                    with self.subTest(i=i):
                        if i: self.skipTest(f"no {i}")
            def test_skipped(self): self.skipTest("whole")
            def test_fine(self): pass
    """

    def test_skipped_sub_tests_are_shown(self) -> None:
        self.write("test_a.py", self.SUITE)
        done = self.harness("-v", "--no-history", "--junit", "j.xml")
        self.assertEqual((done.last_line, done.code), ("2 passed, 0 failed, 1 skipped", 0))
        self.assertRegex(done.out, r"passed .*test_sub  \(2 sub-tests skipped\)\n")
        for i in (1, 2):
            self.assertIn(f"  test_a.TestA.test_sub (i={i})  no {i}\n", done.out)
        merged = self.harness_here("merge-reports", "j.xml")
        self.assertIn("test_a.TestA.test_sub (i=1): no 1", merged.out)

    def test_max_skips(self) -> None:
        self.write("test_a.py", self.SUITE)
        for limit, code in (("3", 0), ("2", 1), ("0", 1)):
            done = self.harness("--no-history", "--max-skips", limit, "--records", "r.json")
            self.assertEqual(done.code, code)
            told = f"too many skips: 3, and --max-skips {limit}: the run fails"
            self.assertEqual(told in done.out, code == 1, done.out)
            merged = self.harness_here("merge-reports", "r.json", "--max-skips", limit)
            self.assertEqual((told in merged.out, merged.code), (code == 1, code))

    def test_a_reason_or_a_name_that_is_no_plain_text(self) -> None:
        self.write(
            "test_odd.py",
            """
            import unittest
            class Named(str):
                pass
            class TestOdd(unittest.TestCase):
                def id(self): return Named(super().id())
                @unittest.skip(5)
                def test_number(self): pass
                @unittest.skip(ValueError("why"))
                def test_error(self): pass
                def test_fine(self): pass
            """,
        )
        for jobs in ("0", "1"):
            done = self.harness("-j", jobs)
            self.assertEqual(done.last_line, "1 passed, 0 failed, 2 skipped", done)
            self.assertRegex(done.out, r"(?m)^ +1  5$")
            self.assertRegex(done.out, r"(?m)^ +1  why$")

    def test_a_record_without_an_outcome_is_no_success(self) -> None:
        self.write("test_a.py", self.SUITE)
        self.harness("--no-history", "--records", "r.json")
        path = self.folder / "r.json"
        data: dict[str, Any] = json.loads(path.read_text())
        for broken in (
            {"status": "passed", "troubles": self.TROUBLES},
            {"troubles": self.TROUBLES},
            {},
        ):
            plain = {k: v for k, v in data["records"][0].items() if k != "status"}
            path.write_text(
                json.dumps({**data, "records": [{**plain, **broken}, data["records"][1]]})
            )
            merged = self.harness_here("merge-reports", "r.json")
            self.assertEqual(merged.code, 1, broken)
            self.assertIn(", 1 failed, ", merged.last_line)

    TROUBLES = [{"label": "FAIL", "title": "t", "text": "wrong"}]


class TestLedger(unittest.TestCase):
    def item(self, number: int) -> Item:
        return Item(number, PlannedTest(f"m.C.test_{number}", "m.C"))

    def ledger(self) -> Ledger:
        ledger = Ledger(0, None, mock.Mock())
        ledger.expect([self.item(number) for number in range(3)])
        ledger.take(self.item(0), TestRecord("m.C.test_0", Status.PASSED))
        return ledger

    def test_a_run_that_misses_a_test_has_failed(self) -> None:
        ledger, run = self.ledger(), RunResult()
        ledger.close(run)
        self.assertEqual((run.not_run, run.exit_code), (2, EXIT_FAILED))
        self.assertEqual(ledger.lost(), ["m.C.test_1", "m.C.test_2"])

    def test_a_fixture_explains_it_if_it_has_failed(self) -> None:
        ledger = self.ledger()
        ledger.explain(self.item(1), "setUpClass (m.C)")
        self.assertEqual(ledger.lost(), ["m.C.test_1", "m.C.test_2"])
        ledger.take(self.item(1), TestRecord("setUpClass (m.C)", Status.FAILED))
        self.assertEqual(ledger.lost(), ["m.C.test_2"])

    def test_all_have_run(self) -> None:
        ledger, run = self.ledger(), RunResult()
        for number in (1, 2):
            ledger.take(self.item(number), TestRecord(f"m.C.test_{number}", Status.PASSED))
        ledger.close(run)
        self.assertEqual((run.not_run, run.exit_code, ledger.lost()), (0, EXIT_PASSED, []))

    def test_the_run_names_what_it_has_lost(self) -> None:
        wanted = Wanted((), (), (), is_script=True)
        with mock.patch.dict(sys.modules, __main__=sys.modules[__name__]):
            run = Execution(Options(jobs=0, keeps_history=False, patterns=()), wanted)
            with (
                mock.patch(
                    "harness.runner.selection.discovery.tests_of", return_value=[self.found()]
                ),
                mock.patch.object(Ledger, "take"),
                contextlib.redirect_stdout(io.StringIO()) as out,
            ):
                run._console._stream = out
                self.assertEqual(run.run(), EXIT_FAILED)
        self.assertIn("1 not run", out.getvalue())
        self.assertRegex(out.getvalue(), r"lost: .*was planned, but has no result")

    def found(self) -> Any:
        class TestNothing(unittest.TestCase):
            def test_nothing(self) -> None:
                pass

        test = TestNothing("test_nothing")
        return ("__main__", test.id(), 0), test

    def test_records_from_elsewhere(self) -> None:
        self.assertIs(record_from_data({"test_id": "a"}).status, Status.FAILED)
        passed = TestRecord("a", Status.PASSED, copy=2)
        self.assertEqual(record_from_data(passed.to_data()), passed)
        self.assertEqual(passed.key, "a #3")
