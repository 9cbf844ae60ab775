"""What names on the command line mean, and what is told of tests that they do not reach."""

from __future__ import annotations

import sys

from suites.selftest.support import CommandTestCase

TWO = """
    import unittest
    class TestA(unittest.TestCase):
        def test_one(self): pass
        def test_two(self): pass
    class TestB(unittest.TestCase):
        def test_one(self): pass
"""


class NamesTestCase(CommandTestCase):
    def listed(self, *names: str) -> list[str]:
        done = self.harness("--list", *names)
        self.assertEqual(done.code, 0, done.err)
        return done.out.split()

    def told(self, *arguments: str, code: int = 2) -> str:
        """What a command that must not pass says."""
        done = self.harness(*arguments)
        self.assertEqual(done.code, code, (done.out, done.err))
        if code == 2:
            self.assertEqual((done.out, len(done.err.splitlines())), ("", 1), done.err)
        return done.err if code == 2 else done.out

    def passes(self, last_line: str, *arguments: str) -> str:
        done = self.harness(*arguments)
        self.assertEqual((done.code, done.last_line), (0, last_line), (done.out, done.err))
        return done.out


class TestInsideAFile(NamesTestCase):
    def setUp(self):
        super().setUp()
        self.write("test_x.py", TWO)
        self.write("sub/test_y.py", TWO)

    def test_pytests_spelling(self):
        for name, tests in (
            ("test_x.py::TestA", ["test_x.TestA.test_one", "test_x.TestA.test_two"]),
            ("test_x.py::TestA::test_one", ["test_x.TestA.test_one"]),
            ("test_x.py::TestA.test_one", ["test_x.TestA.test_one"]),
            ("./test_x.py::test_two", ["test_x.TestA.test_two"]),
            ("sub/test_y.py::TestB", ["test_y.TestB.test_one"]),
            ("sub::TestB", ["test_y.TestB.test_one"]),
            ("TestA::test_two", ["test_x.TestA.test_two"]),
            ("test_x::TestB", ["test_x.TestB.test_one"]),
        ):
            with self.subTest(name):
                self.assertEqual(self.listed(name), tests)

    def test_with_names_of_other_kinds(self):
        names = ("sub/test_y.py::TestB", "test_x.TestA.test_two", "test_x.py::TestB")
        self.assertEqual(
            self.listed(*names),
            ["test_y.TestB.test_one", "test_x.TestA.test_two", "test_x.TestB.test_one"],
        )

    def test_runs_and_is_found_again_by_workers(self):
        self.passes("1 passed, 0 failed, 0 skipped", "sub/test_y.py::TestA::test_two")

    def test_in_a_script(self):
        self.write("script.py", TWO.replace("import unittest", "import harness, unittest"))
        with (self.folder / "script.py").open("a") as file:
            file.write("if __name__ == '__main__':\n    harness.run_tests()\n")
        done = self.run_command(sys.executable, "script.py", "TestA::test_one")
        self.assertEqual((done.code, done.last_line), (0, "1 passed, 0 failed, 0 skipped"))

    def test_nothing_of_that_name_is_there(self):
        self.assertIn(
            "there is no 'TestA.test_oen' in ", told := self.told("test_x.py::TestA::test_oen")
        )
        self.assertIn("the nearest names are TestA.test_one", told)
        self.assertIn("names nothing after the colons", self.told("test_x.py::"))

    def test_other_spellings_are_told_the_right_one(self):
        for name, meant in (
            ("test_x.py:TestA", "test_x.py::TestA"),
            ("test_x.py TestA.test_one", "test_x.py::TestA.test_one"),
            ("test_x.py.TestA", "test_x.py::TestA"),
            ("sub/test_y.TestA.test_one", "sub/test_y.py::TestA.test_one"),
            ("sub/test_y/TestA", "sub/test_y.py::TestA"),
            ("sub/test_y.py/TestA", "sub/test_y.py::TestA"),
        ):
            with self.subTest(name):
                self.assertIn(f"did you mean {meant}?", self.told(name))

    def test_a_test_beside_its_whole_file(self):
        out = self.passes("3 passed, 0 failed, 0 skipped", "test_x.py", "TestA.test_one")
        self.assertIn("test_x.py is named as well as TestA.test_one, so all of its tests run", out)

    def test_a_file_that_cannot_be_imported(self):
        self.write("test_z.py", "import no_such_module")
        out = self.told("test_z.py::TestZ", code=1)
        self.assertIn("No module named 'no_such_module'", out)


class TestFolders(NamesTestCase):
    def test_subfolders_without_init_are_told(self):
        self.write("test_x.py", TWO)
        for name in (
            "sub/test_1.py",
            "sub/deep/test_2.py",
            "sub/deep/test_3.py",
            ".venv/test_4.py",
        ):
            self.write(name, TWO)
        out = self.passes("3 passed, 0 failed, 0 skipped")
        self.assertIn("no __init__.py: sub (1), sub/deep (2), with 3 test files: name these", out)
        self.assertIn(
            "sub/deep (2), with 2 test files",
            self.passes("6 passed, 0 failed, 0 skipped", ".", "sub"),
        )

    def test_packages_are_looked_into(self):
        for name in ("pack/__init__.py", "pack/inner/__init__.py"):
            self.write(name, "")
        self.write("pack/inner/test_x.py", TWO)
        self.assertNotIn("__init__", self.passes("3 passed, 0 failed, 0 skipped"))

    def test_a_folder_with_tests_in_subfolders_only(self):
        self.write("tests/unit/test_x.py", TWO)
        told = self.told("tests")
        self.assertIn("tests has no test files (test_*.py) itself: ", told)
        self.assertIn("tests/unit (1), with 1 test file: name these folders", told)
        self.assertIn("tests/unit (1)", self.told(code=5))

    def test_a_folder_without_tests(self):
        (self.folder / "empty").mkdir()
        self.write("test_x.py", TWO)
        self.assertIn(
            "there are no test files (test_*.py) in empty", self.told("test_x.py", "empty")
        )

    def test_no_test_file_at_all(self):
        self.assertIn(f"there are no test files (test_*.py) in {self.folder}", self.told(code=5))
        self.assertIn("there are no test files (test_*.py) to search", self.told("TestA.test_one"))


class TestPatterns(NamesTestCase):
    def test_what_left_all_tests_out(self):
        self.write("test_x.py", TWO)
        out = self.told("-k", "TestA and tset_one", "-k", "test_tow", code=5)
        self.assertIn("-k 'TestA and tset_one' matches none of 3 tests", out)
        self.assertIn("-k 'test_tow' matches none of 3 tests; the nearest names are test_two", out)
        self.assertIn("tests found: 3, selected: none\n0 passed", out)
        self.harness()
        out = self.told("--rerun-failed", code=5)
        self.assertIn("0 of 3 tests failed when they ran last", out)
        self.assertIn("tests found: 3, selected: none", out)
        out = self.told("-k", "test_two", "--shard", "2/2", code=5)
        self.assertIn("shard 2/2: 0 of 1 tests", out)

    def test_one_of_several_that_matches_nothing(self):
        self.write("test_x.py", TWO)
        out = self.passes("1 passed, 0 failed, 0 skipped", "-k", "test_two", "-k", "nothing")
        self.assertIn("-k 'nothing' matches none of 3 tests", out)

    def test_in_a_list(self):
        self.write("test_x.py", TWO)
        done = self.harness("--list", "-k", "nothing")
        self.assertEqual((done.code, done.out), (5, ""))
        self.assertIn("-k 'nothing' matches none of 3 tests", done.err)


class TestPytestStyle(NamesTestCase):
    STYLE = """
        import pytest

        @pytest.fixture
        def number():
            return 1

        def test_function(number):
            assert number

        class TestPlain:
            def test_method(self): pass

        class TestBase:
            def test_of_base(self): pass

        def helper(): pass
    """

    def test_a_file_with_nothing_else(self):
        self.write("test_p.py", self.STYLE)
        self.write("test_x.py", TWO)
        for names in (("test_p.py",), ("test_x.py", "test_p.py"), ("test_p.py::test_function",)):
            told = self.told(*names)
            self.assertIn("not run: test_function, TestPlain, TestBase in ", told)
            self.assertIn("run them with python -m pytest", told)
        out = self.passes("3 passed, 0 failed, 0 skipped")
        self.assertIn("not run: test_function, TestPlain, TestBase in ", out)

    def test_beside_test_cases(self):
        case = """
        import unittest
        class TestCase(TestBase, unittest.TestCase): pass
        """
        self.write("test_p.py", self.STYLE + case)
        out = self.passes("1 passed, 0 failed, 0 skipped", "test_p.py")
        self.assertIn("not run: test_function, TestPlain in ", out)
        out = self.passes("1 passed, 0 failed, 0 skipped", "test_p.py", "-k", "of_base")
        self.assertNotIn("not run", out)

    PARAMETRIZED = """
        import pytest, unittest
        from harness import MultiProcessTestCase, TestCase

        class TestPlain(unittest.TestCase):
            @pytest.mark.parametrize("x", [1, 2])
            def test_plain(self, x=0): pass

        class TestOurs(TestCase):
            @pytest.mark.parametrize("x", [1, 2])
            def test_default(self, x=0): pass
            @pytest.mark.parametrize("x", [1, 2])
            def test_argument(self, x): pass

        class TestRanks(MultiProcessTestCase):
            world_size = 2
            @pytest.mark.parametrize("x", [1, 2])
            @unittest.expectedFailure
            def test_ranks(self, x): pass
    """

    def test_pytests_parametrize(self):
        """Ours fail, however they are run; of unittest's, which know nothing of us, it is told."""
        self.write("test_p.py", self.PARAMETRIZED)
        advice = "decorate it with harness.parametrize, and its class with harness.instantiate"
        done = self.harness("test_p.py")
        self.assertEqual((done.code, done.last_line), (1, "1 passed, 3 failed, 0 skipped"))
        self.assertEqual(done.out.count(advice), 3, done.out)
        self.assertIn("test_p: TestPlain.test_plain, ", done.out)
        for command in (("-m", "unittest", "test_p"), ("-m", "pytest", "test_p.py")):
            done = self.run_command(sys.executable, *command)
            self.assertEqual(done.code, 1, done.out)
            self.assertGreaterEqual((done.out + done.err).count(advice), 3, done.out)
            self.assertRegex(done.out + done.err, "errors=3|3 failed, 1 passed")
