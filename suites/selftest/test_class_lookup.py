"""Ranks find the test class, however its file was loaded, or a sentence says why they cannot."""

from __future__ import annotations

import ast
import os
import sys
from pathlib import Path

from harness.ranks.class_lookup import _is_conditional
from suites.selftest.support import CommandTestCase

CLASS = """
import unittest
from harness import MultiProcessTestCase


class TestRank(MultiProcessTestCase):
    world_size = 2

    def test_rank(self):
        self.assertIn(self.rank, (0, 1))

"""
GUARDED = CLASS + 'if __name__ == "__main__":\n    unittest.main()\n'
PYTEST = str(Path(sys.executable).with_name("pytest"))


class TestScripts(CommandTestCase):
    def assert_told(self, finished, *texts):
        """One error, which has all of the texts, and no traceback of the harness's own."""
        self.assertNotEqual(finished.code, 0)
        for text in texts:
            self.assertIn(text, finished.out + finished.err)
        self.assertNotIn("harness/ranks/", finished.err)
        self.assertNotIn("Ran 0 tests", finished.err)
        self.assert_clean(finished)

    def test_no_main_guard(self):
        calls = (
            "unittest.main()",
            "from harness import run_tests; run_tests()",
            "def main():\n    unittest.main()\n\nwith open(__file__):\n    main()",
        )
        for call, method in zip(calls, ("spawn", "forkserver", "forkserver"), strict=True):
            with self.subTest(call=call, method=method):
                script = self.write("script.py", CLASS + call + "\n")
                lines = script.read_text().splitlines()
                finished = self.run_command(
                    sys.executable, "script.py", HARNESS_START_METHOD=method
                )
                self.assert_told(
                    finished,
                    f"script.py:{len(lines)} runs the tests whenever the file is imported",
                    f"if __name__ == '__main__':\n        {lines[-1].strip()}\n",
                )

    def test_a_guard_of_another_kind(self):
        self.write("script.py", CLASS + '__name__ == "__main__" and unittest.main()\n')
        finished = self.run_command(sys.executable, "script.py")
        self.assertIn("\nOK\n", finished.err)

    def test_which_lines_are_unconditional(self):
        text = "a()\nif x: b()\nwith c:\n    d()\ntry:\n    e()\nexcept E:\n    f()\nx or g()\n"
        tree = ast.parse(text)
        found = [line for line in range(1, 11) if not _is_conditional(tree.body, line)]
        self.assertEqual(found, [1, 4, 6])

    def test_code_that_is_in_no_file(self):
        ways = {
            "-c": ([sys.executable, "-c", GUARDED], ""),
            "standard input": ([sys.executable, "-"], GUARDED),
            "interactive": (
                [sys.executable, "-i"],
                # An empty line ends a class there.
                CLASS.replace("2\n\n", "2\n").replace("Case\n\n\n", "Case\n") + "unittest.main()\n",
            ),
        }
        for way, (command, text) in ways.items():
            with self.subTest(way):
                (self.folder / "input").write_text(text)
                finished = self.run_command(
                    "sh", "-c", 'file=$1; shift; exec "$@" < "$file"', "sh", "input", *command
                )
                told = finished.out + finished.err
                self.assertIn("cannot import a test class that is not in a file", told)
                self.assertIn("Save the test to a file and run that, or call run_on_ranks", told)
                self.assertNotIn("harness/ranks/", told)

    def test_a_script_that_is_gone(self):
        self.write("gone.py", "import os\nos.unlink(__file__)\n" + GUARDED)
        finished = self.run_command(sys.executable, "gone.py")
        self.assert_told(finished, "gone.py no longer exists. Keep the file")

    def test_a_script_that_fails_where_it_is_not_main(self):
        self.write("fails.py", 'if __name__ != "__main__":\n    1 / 0\n' + GUARDED)
        finished = self.run_command(sys.executable, "fails.py")
        self.assertNotEqual(finished.code, 0)
        self.assertIn("the script is not the main program, and importing it fails", finished.err)
        self.assertIn("ZeroDivisionError", finished.err)

    def test_classes_that_are_in_no_module(self):
        self.write("text.txt", CLASS)
        exec_in = (
            "space = {{{}}}\nexec(open('text.txt').read(), space)\nTestRank = space['TestRank']"
        )
        cases = {
            "def make():\n    class TestRank(MultiProcessTestCase):\n        def test(self): pass\n"
            "    return TestRank\n\n\ndef load_tests(loader, tests, pattern):\n"
            "    return loader.loadTestsFromTestCase(make())\n": "Define test classes at module",
            exec_in.format(
                "'__name__': 'invented'"
            ): "its module 'invented' does not exist as a file",
            exec_in.format(""): "look it up by its name in module builtins",
        }
        for text, told in cases.items():
            with self.subTest(told):
                self.write("made.py", "from harness import MultiProcessTestCase\n" + text)
                finished = self.run_command(sys.executable, "-m", "unittest", "made")
                self.assert_told(finished, "ranks cannot import class", told)


class TestImportModes(CommandTestCase):
    """pytest's ways to import test files."""

    def setUp(self):
        super().setUp()
        self.write("pytest.ini", "[pytest]\n")
        self.write("tests/__init__.py", "")
        self.write("tests/deep/__init__.py", "")
        self.write("tests/helper.py", "VALUE = 3\n")
        self.write("tests/conftest.py", "import pytest\n")
        self.write(
            "tests/deep/test_deep.py",
            CLASS.replace("(0, 1))", "(0, 1))\n        self.assertEqual(VALUE, 3)").replace(
                "import unittest", "from ..helper import VALUE"
            ),
        )
        for folder in ("one", "two.5"):
            text = CLASS.replace("(0, 1))", f"(0, 1))\n        self.assertIn('{folder}', __file__)")
            self.write(f"plain/{folder}/test_same.py", text)

    def pytest(self, *arguments, **env):
        # Not `python -m pytest`, which has the current folder on sys.path.
        return self.run_command(PYTEST, "-q", *arguments, **env)

    def test_by_path(self):
        finished = self.pytest("--import-mode=importlib", "tests", "plain")
        self.assertIn("3 passed", finished.out, finished.out)

    def test_by_path_in_spawned_ranks_from_another_folder(self):
        finished = self.pytest(
            "--import-mode=importlib",
            str(self.folder / "tests"),
            cwd=self.folder / "plain",
            HARNESS_START_METHOD="spawn",
        )
        self.assertIn("1 passed", finished.out, finished.out)

    def test_a_package_of_that_name_elsewhere(self):
        other = self.write("elsewhere/tests/__init__.py", "OTHER = True\n").parents[1]
        path = os.pathsep.join([str(other), str(Path(__file__).parents[2])])
        finished = self.pytest("--import-mode=importlib", "tests", PYTHONPATH=path)
        self.assertIn("1 passed", finished.out, finished.out)

    def test_with_folders_on_the_path(self):
        for mode in ("prepend", "append"):
            with self.subTest(mode):
                finished = self.pytest(f"--import-mode={mode}", "tests", "plain/one")
                self.assertIn("2 passed", finished.out, finished.out)

    def test_outside_of_the_root(self):
        finished = self.pytest("--import-mode=importlib", "--rootdir=tests", "plain")
        self.assertIn("2 passed", finished.out, finished.out)
