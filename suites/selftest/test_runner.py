"""The command line: selection, exit codes, the last line, and bad input. No torch needed."""

from __future__ import annotations

import io
import sys
import unittest

from harness.runner.console import Console
from harness.runner.results import RunResult
from suites.selftest.support import ROOT, CommandTestCase

MIXED = """
    import unittest

    class TestMixed(unittest.TestCase):
        def test_fine(self):
            pass

        def test_bad(self):
            self.assertEqual(1, 2)

        def test_raises(self):
            raise KeyError("gone")

        @unittest.skip("not today")
        def test_skipped(self):
            pass

        @unittest.expectedFailure
        def test_expected(self):
            self.fail()

        @unittest.expectedFailure
        def test_unexpected(self):
            pass

        def test_parts(self):
            for i in range(4):
                with self.subTest(i=i):
                    self.assertLess(i, 2)
"""

GOOD = """
    import unittest

    class TestGood(unittest.TestCase):
        def test_one(self):
            pass

        def test_two(self):
            pass

    class TestMore(unittest.TestCase):
        def test_one(self):
            pass
"""


class TestRuns(CommandTestCase):
    def test_all_kinds_of_ends(self):
        self.write("test_mixed.py", MIXED)
        done = self.harness()
        self.assertEqual(done.code, 1)
        self.assertEqual(done.last_line, "2 passed, 4 failed, 1 skipped")
        for title in (
            "FAIL: test_mixed.TestMixed.test_bad",
            "ERROR: test_mixed.TestMixed.test_raises",
            "XPASS: test_mixed.TestMixed.test_unexpected",
            "FAIL: test_mixed.TestMixed.test_parts (i=2)",
            "FAIL: test_mixed.TestMixed.test_parts (i=3)",
            "KeyError: 'gone'",
            "not today",
        ):
            self.assertIn(title, done.out)
        self.assertNotIn("(i=1)", done.out)
        self.assert_clean(done)

    def test_all_good(self):
        self.write("test_good.py", GOOD)
        done = self.harness()
        self.assertEqual((done.code, done.err), (0, ""))
        self.assertEqual(
            done.out,
            "test_good.TestGood ..\ntest_good.TestMore .\n3 passed, 0 failed, 0 skipped\n",
        )

    def test_default_is_the_folder_suites_where_there_is_one(self):
        self.write("suites/__init__.py", "")
        self.write("suites/test_good.py", GOOD)
        self.write("test_mixed.py", MIXED)
        done = self.harness("--list")
        self.assertEqual(
            done.out.split(),
            [
                "suites.test_good.TestGood.test_one",
                "suites.test_good.TestGood.test_two",
                "suites.test_good.TestMore.test_one",
            ],
        )

    def test_what_the_terminal_cannot_show_is_escaped(self):
        self.write(
            "test_odd.py",
            """
            import unittest
            class T(unittest.TestCase):
                def test(self): self.fail("\N{SNOWMAN} and \\udc80")
            """,
        )
        for encoding in ("ascii", "utf-8"):
            for jobs in ("0", "1"):
                with self.subTest(encoding=encoding, jobs=jobs):
                    done = self.harness("-j", jobs, PYTHONIOENCODING=encoding)
                    self.assertEqual(done.last_line, "0 passed, 1 failed, 0 skipped", done.err)
                    self.assertIn("udc80", done.out)

    def test_verbose_has_a_line_for_each_test(self):
        self.write("test_mixed.py", MIXED)
        done = self.harness("-v", "-k", "fine", "-k", "skipped")
        self.assertRegex(done.out, r"(?m)^passed +\d+\.\d\d s  test_mixed.TestMixed.test_fine$")
        self.assertRegex(done.out, r"(?m)^skipped .*TestMixed.test_skipped  \(not today\)$")

    def test_failfast_stops(self):
        self.write("test_mixed.py", MIXED)
        done = self.harness("-f", "-j", "1")
        self.assertEqual(done.code, 1)
        self.assertEqual(done.last_line, "0 passed, 1 failed, 0 skipped")
        self.assertIn("6 not run", done.out)

    def test_seed_reaches_the_tests(self):
        self.write(
            "test_seed.py",
            """
            import os, unittest
            class TestSeed(unittest.TestCase):
                def test(self):
                    self.assertEqual(os.environ.get("HARNESS_SEED"), "77")
            """,
        )
        self.assertEqual(self.harness("--seed", "77").code, 0)
        self.assertEqual(self.harness().code, 1)

    def test_class_and_module_fixtures(self):
        self.write(
            "test_fixtures.py",
            """
            import unittest
            def setUpModule(): print("module up")
            def tearDownModule(): print("module down")
            class TestBroken(unittest.TestCase):
                @classmethod
                def setUpClass(cls): raise OSError("no disk")
                def test_one(self): pass
                def test_two(self): pass
            class TestSkipping(unittest.TestCase):
                @classmethod
                def setUpClass(cls): raise unittest.SkipTest("no license")
                def test_one(self): pass
            class TestFine(unittest.TestCase):
                @classmethod
                def setUpClass(cls): print("class up")
                @classmethod
                def tearDownClass(cls): print("class down")
                def test_one(self): pass
                def test_two(self): pass
            """,
        )
        done = self.harness("-s")
        self.assertEqual(done.code, 1)
        for text in ("module up", "module down", "class up", "class down"):
            self.assertEqual(done.out.count(text), 1, text)
        self.assertIn("ERROR: setUpClass (test_fixtures.TestBroken)", done.out)
        self.assertIn("OSError: no disk", done.out)
        self.assertIn("2 not run", done.out)
        self.assertEqual(done.last_line, "2 passed, 1 failed, 1 skipped")


class TestNames(CommandTestCase):
    def setUp(self):
        super().setUp()
        self.write("pkg/__init__.py", "")
        self.write("pkg/test_good.py", GOOD)
        self.write("pkg/not_a_test_file.py", GOOD)
        self.write("test_mixed.py", MIXED)

    def listed(self, *names):
        done = self.harness("--list", *names)
        self.assertEqual(done.code, 0, done.err)
        return done.out.split()

    def test_every_way_to_name_tests(self):
        both = ["pkg.test_good.TestGood.test_one", "pkg.test_good.TestGood.test_two"]
        all_good = [*both, "pkg.test_good.TestMore.test_one"]
        ways = {
            "pkg": all_good,
            "pkg/": all_good,
            "pkg/test_good.py": all_good,
            "pkg.test_good": all_good,
            "test_good": all_good,
            "pkg.test_good.TestGood": both,
            "test_good.TestGood": both,
            "TestGood": both,
            "TestGood.test_two": both[1:],
            "test_two": both[1:],
            "pkg.test_good.TestGood.test_two": both[1:],
        }
        for name, wanted in ways.items():
            with self.subTest(name=name):
                self.assertEqual(self.listed(name), wanted)

    def test_modules_elsewhere_on_the_path(self):
        self.assertEqual(
            self.listed("pkg.not_a_test_file.TestMore"), ["pkg.not_a_test_file.TestMore.test_one"]
        )

    def test_a_named_module_is_imported_once_and_no_other(self):
        """By the fork server, for all workers and ranks: to import torch again takes seconds."""
        self.write(
            "pkg/checks.py",
            """
            import os, unittest
            with open(os.environ["OUT"], "a") as file:
                print("imported", file=file)
            class TestIt(unittest.TestCase): pass
            for i in range(6):
                setattr(TestIt, f"test_{i}", lambda self: None)
            """,
        )
        self.write("no_package/checks.py", (self.folder / "pkg/checks.py").read_text())
        self.write("plain.py", (self.folder / "pkg/checks.py").read_text())
        self.write("test_other.py", "import os; open(os.environ['OUT'], 'a').write('other ')")
        for name, wanted in (
            ("pkg.checks", "imported\n"),
            ("pkg.checks.TestIt", "imported\n"),
            ("no_package.checks", "imported\n"),
            ("checks.TestIt.test_1", "no such name"),
            ("plain.TestIt", "imported\n"),
            ("plain", "other imported\n"),
        ):
            with self.subTest(name=name):
                out = self.folder / "out.txt"
                out.write_text("")
                done = self.harness("-j", "3", "-k", "check or plain", name, OUT=str(out))
                if "no such" in wanted:
                    self.assertEqual(done.code, 2, done.out)
                else:
                    self.assertRegex(done.last_line, "^6 passed, 0 failed", done.out + done.err)
                    self.assertEqual(out.read_text(), wanted)

    def test_several_names_give_each_test_once(self):
        self.assertEqual(
            self.listed("TestMore", "pkg.test_good.TestMore.test_one", "test_two"),
            ["pkg.test_good.TestMore.test_one", "pkg.test_good.TestGood.test_two"],
        )

    def test_patterns(self):
        self.assertEqual(
            self.listed("-k", "one", "pkg"),
            [
                "pkg.test_good.TestGood.test_one",
                "pkg.test_good.TestMore.test_one",
            ],
        )
        self.assertEqual(self.listed("-k", "*More*one"), ["pkg.test_good.TestMore.test_one"])

    def test_part_of_a_name_is_no_name(self):
        self.assertEqual(self.harness("--list", "TestGoo").code, 2)


class TestBadInput(CommandTestCase):
    def complaint(self, *arguments, **env):
        """What is said about a command line that cannot be carried out: one line, exit code 2."""
        done = self.harness(*arguments, **env)
        self.assertEqual(done.code, 2, done.out + done.err)
        self.assertEqual(done.out, "")
        self.assertEqual(done.err.count("\n"), 1, done.err)
        return done.err

    def test_unknown_test(self):
        self.write("test_good.py", GOOD)
        complaint = self.complaint("TestGood.test_tow")
        self.assertIn("no test is called 'TestGood.test_tow'", complaint)
        self.assertIn("nearest names are TestGood.test_two", complaint)

    def test_unknown_file(self):
        self.write("test_good.py", GOOD)
        self.assertIn(
            "there is no file or folder test_god.py; did you mean test_good.py?",
            self.complaint("test_god.py"),
        )

    def test_file_that_is_not_python(self):
        self.write("sub/notes.txt", "")
        self.assertIn("sub/notes.txt is not a Python file", self.complaint("sub/notes.txt"))

    def test_unknown_option(self):
        self.assertIn("unrecognized arguments: --fast", self.complaint("--fast"))

    def test_seed_that_is_no_number(self):
        told = self.complaint("--seed", "x")
        self.assertIn("argument --seed: 'x' must be a whole number", told)

    def test_nothing_to_run(self):
        done = self.harness()
        self.assertEqual(done.code, 5)
        where = f"there are no test files (test_*.py) in {self.folder}"
        last = "no tests were found\n0 passed, 0 failed, 0 skipped"
        self.assertEqual(done.out, f"{where}\n{last}\n")

    def test_what_was_not_run_has_been_found(self):
        out = io.StringIO()
        Console(stream=out).summary(RunResult(interrupted=True, not_run=1))
        text = "interrupted\n1 not run\n0 passed, 0 failed, 0 skipped\n"
        self.assertEqual(out.getvalue(), text)

    def test_nothing_left_by_the_patterns(self):
        self.write("test_good.py", GOOD)
        self.assertEqual(self.harness("-k", "nothing").code, 5)
        self.assertEqual(self.harness("-k", "nothing", "--list").code, 5)

    def test_everything_skipped_is_not_a_pass(self):
        self.write("test_mixed.py", MIXED)
        done = self.harness("-k", "skipped")
        self.assertEqual(done.code, 5)
        self.assertIn("nothing ran: every test was skipped", done.out)
        self.assertEqual(done.last_line, "0 passed, 0 failed, 1 skipped")

    def test_module_that_cannot_be_imported(self):
        self.write("test_good.py", GOOD)
        self.write("test_broken.py", "import unittest\nimport no_such_module\n")
        self.write("test_syntax.py", "def broken(:\n")
        self.write("test_exits.py", "raise SystemExit(0)\n")
        done = self.harness()
        self.assertEqual(done.code, 1)
        self.assertEqual(done.last_line, "3 passed, 3 failed, 0 skipped")
        self.assertIn("ERROR: import of test_broken", done.out)
        self.assertIn("ModuleNotFoundError: No module named 'no_such_module'", done.out)
        self.assertIn('test_broken.py", line 2', done.out)
        self.assertIn("SyntaxError", done.out)
        self.assertNotIn("harness/runner", done.out)
        listing = self.harness("--list")
        self.assertEqual(listing.code, 1)
        self.assertIn("test_broken cannot be imported", listing.err)

    def test_module_that_skips_itself(self):
        self.write("test_good.py", GOOD)
        self.write("test_none.py", "import unittest\nraise unittest.SkipTest('needs a license')\n")
        done = self.harness()
        self.assertEqual((done.code, done.last_line), (0, "3 passed, 0 failed, 1 skipped"))
        self.assertIn("needs a license", done.out)

    def test_reader_that_leaves_early(self):
        self.write("test_good.py", GOOD)
        done = self.run_command("sh", "-c", f"'{sys.executable}' -m harness --list | head -n 1")
        self.assertEqual(done.err, "")

    def test_torch_is_missing_or_too_old(self):
        self.write("test_ranks.py", "from harness import MultiProcessTestCase\n")
        self.write("no/torch/__init__.py", "raise ImportError")
        for version, text in (("1.9.0", "torch 1.9 is too old: run `pip install --upgrade"),):
            self.write(
                f"old/torch-{version}.dist-info/METADATA",
                f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n",
            )
            self.write("old/torch/__init__.py", "")
            self.write("old/torch/_C.so", "")  # it is built
            done = self.harness(PYTHONPATH=f"{self.folder}/old:{ROOT}")
            self.assertEqual((done.code, done.last_line), (1, "0 passed, 1 failed, 0 skipped"))
            self.assertIn(text, done.out)
            self.assertNotIn("Traceback", done.out)


class TestHelp(CommandTestCase):
    def test_help_names_everything_and_imports_nothing_heavy(self):
        done = self.run_command(
            sys.executable, "-X", "importtime", str(ROOT / "run_tests.py"), "--help"
        )
        self.assertEqual(done.code, 0)
        for option in ("-k", "--verbose", "--failfast", "--list", "--seed", "exit codes"):
            self.assertIn(option, done.out)
        for heavy in ("torch", "numpy", "hypothesis", "expecttest", "multiprocessing"):
            self.assertNotRegex(done.err, rf"\| +{heavy}\n")

    def test_version(self):
        done = self.harness("--version")
        self.assertRegex(done.out, r"^harness \d+\.\d+")


if __name__ == "__main__":
    unittest.main()
