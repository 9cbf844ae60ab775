"""Warnings of ranks: the parent's filters decide about them, and the parent shows them."""

from __future__ import annotations

import os
import re
import sys
import unittest
import warnings
from unittest import mock

from harness import run_on_ranks
from harness.model.errors import StateLeakWarning
from harness.model.warning_data import current_filters, set_filters
from suites.samples import warns
from suites.selftest.support import CommandTestCase, run_case

CLASSES = (warns.Processes, warns.Staying, warns.Continuous)


class WarningsTestCase(unittest.TestCase):
    def shown(self, cls, method, action="default", status="passed", **how):
        """The categories and texts of what is shown while a test runs under a filter."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.resetwarnings()
            warnings.filterwarnings(action, **how)
            result = run_case(cls, method)
        self.assertEqual(result.status, status, result.text)
        self.text = result.text
        return [(w.category.__name__, str(w.message)) for w in caught]


class TestShown(WarningsTestCase):
    def test_each_class(self):
        for cls in CLASSES:
            for method, expected in (
                ("test_all_ranks", [("FutureWarning", "all of us (ranks 0 and 1)")]),
                # Once more, as pytest has every test show all of its warnings.
                ("test_all_ranks", [("FutureWarning", "all of us (ranks 0 and 1)")]),
                ("test_one_rank", [("OwnWarning", "me alone (rank 1)")]),
                ("test_many_times", [("DeprecationWarning", "again (ranks 0 and 1)")]),
                ("test_odd_category", [("UserWarning", ".OddWarning: odd 3 (ranks 0 and 1)")]),
                ("test_recorded", []),
                ("test_examples", [("UserWarning", "example (ranks 0 and 1)")]),
            ):
                with self.subTest(f"{cls.__name__}.{method}"):
                    shown = self.shown(cls, method)
                    self.assertEqual([kind for kind, _ in shown], [kind for kind, _ in expected])
                    for (_, text), (_, end) in zip(shown, expected, strict=True):
                        self.assertTrue(text.endswith(end), text)

    def test_the_line(self):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            run_case(warns.Processes, "test_all_ranks")
        self.assertEqual(caught[0].filename, warns.__file__)
        line = warns.warn.__code__.co_firstlineno + 1
        self.assertEqual(caught[0].lineno, line)

    def test_a_category_that_is_not_known_here(self):
        ((kind, text),) = self.shown(warns.Processes, "test_category_of_this_function")
        self.assertEqual(
            (kind, text[-35:]), ("UserWarning", ".LocalWarning: local (ranks 0 and 1)"[-35:])
        )

    def test_a_flood(self):
        shown = self.shown(warns.Processes, "test_flood", "always")
        self.assertEqual(len(shown), 101)
        self.assertEqual(shown[99][1], "number 99 (ranks 0 and 1)")
        self.assertIn("issues more than 100 different warnings", shown[100][1])

    def test_of_a_rank_that_dies(self):
        shown = self.shown(warns.Processes, "test_warns_and_dies", status="error")
        self.assertEqual(shown, [("UserWarning", "last words (ranks 0 and 1)")])

    def test_ranks_that_are_spawned(self):
        """Slow: ranks are interpreters that import torch."""
        with mock.patch.dict(os.environ, HARNESS_START_METHOD="spawn"):
            shown = self.shown(warns.Processes, "test_all_ranks")
            self.assertEqual(shown, [("FutureWarning", "all of us (ranks 0 and 1)")])
            self.shown(warns.Processes, "test_one_rank", "error", status="error")

    def test_threads(self):
        """They are in the parent."""
        shown = self.shown(warns.Threads, "test_all_ranks")
        self.assertEqual(shown, [("FutureWarning", "all of us")])
        self.shown(warns.Threads, "test_all_ranks", "error", status="error")

    def test_run_on_ranks(self):
        with self.assertWarnsRegex(warns.OwnWarning, r"in a function \(ranks 0 and 1\)"):
            self.assertEqual(run_on_ranks(warns.warn_and_return, world_size=2), [1, 1])


class TestFilters(WarningsTestCase):
    def test_errors_in_each_class(self):
        for cls in CLASSES:
            with self.subTest(cls.__name__):
                shown = self.shown(cls, "test_all_ranks", "error", status="error")
                self.assertEqual(shown, [])
                # On the first rank at least: a peer may still be on its way.
                self.assertIn("FutureWarning: all of us", self.text)
                shown = self.shown(cls, "test_examples", "error", status="error")
                self.assertIn("UserWarning: example", self.text)
                # The ranks have their filters for one test.
                self.assertEqual(len(self.shown(cls, "test_all_ranks")), 1)

    def test_of_one_kind(self):
        for how, is_error in (
            ({"category": FutureWarning}, True),
            ({"category": DeprecationWarning}, False),
            ({"message": "ALL of"}, True),
            ({"message": "of us"}, False),
            ({"module": r"suites\.samples\.warns"}, True),
            ({"module": "elsewhere"}, False),
            ({"lineno": warns.warn.__code__.co_firstlineno + 1}, True),
            ({"lineno": 1}, False),
        ):
            with self.subTest(how):
                status = "error" if is_error else "passed"
                self.shown(warns.Staying, "test_all_ranks", "error", status, **how)

    def test_a_category_of_the_test_module(self):
        self.shown(warns.Staying, "test_one_rank", "error", "error", category=warns.OwnWarning)
        self.shown(warns.Staying, "test_all_ranks", "error", category=warns.OwnWarning)

    def test_ignored(self):
        self.assertEqual(self.shown(warns.Staying, "test_all_ranks", "ignore"), [])

    def test_what_the_test_shows_itself(self):
        """Its own filters hold, in the rank and in the parent."""
        shown = self.shown(warns.Staying, "test_shown_all_the_same", "error")
        self.assertEqual(shown, [("UserWarning", "shown (ranks 0 and 1)")])

    def test_a_filter_that_is_left(self):
        """It is seen, though the harness changes filters too."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for method in ("test_all_ranks", "test_all_ranks", "test_leaves_a_filter"):
                self.assertEqual(run_case(warns.Staying, method).status, "passed")
        self.assertIn(StateLeakWarning, [w.category for w in caught])
        (leak,) = [str(w.message) for w in caught if w.category is StateLeakWarning]
        self.assertIn("warnings filter", leak)


class TestData(unittest.TestCase):
    """Filters on their way to another process."""

    def setUp(self):
        caught = warnings.catch_warnings()
        caught.__enter__()
        self.addCleanup(caught.__exit__, None, None, None)

    def test_there_and_back(self):
        warnings.resetwarnings()
        warnings.filterwarnings("error", "text", DeprecationWarning, r"a\.b", 7)
        warnings.filters.insert(0, ("default", None, DeprecationWarning, "plain", 0))
        before = list(warnings.filters)
        set_filters(current_filters())
        self.assertEqual(warnings.filters, before)

    def test_a_module_that_is_not_imported(self):
        data = [["error", None, "not.imported.here:TheirWarning", None, 0]]
        set_filters(data)
        theirs = type("TheirWarning", (UserWarning,), {"__module__": "not.imported.here"})
        derived = type("Derived", (theirs,), {})
        for kind in (theirs, derived):
            with self.assertRaises(kind):
                warns.warn("theirs", kind)
        warnings.simplefilter("ignore", append=True)
        warns.warn("another's", UserWarning)

    def test_main_by_its_other_name(self):
        set_filters([["error", None, "builtins:UserWarning", "__main__", 0]])
        for name in ("__main__", "__mp_main__"):
            with self.assertRaises(UserWarning):
                warnings.warn_explicit("text", UserWarning, "file", 1, name)
        with warnings.catch_warnings(record=True) as caught:
            warnings.warn_explicit("text", UserWarning, "file", 1, "__main__s")
        self.assertEqual(len(caught), 1)


class TestWaysIn(CommandTestCase):
    def setUp(self):
        super().setUp()
        self.write(
            "test_warns.py",
            """
            import warnings
            import pytest
            from harness import MultiProcessTestCase, run_tests


            class TestWarns(MultiProcessTestCase):
                world_size = 2

                def test_warns(self):
                    warnings.warn("this API goes away", FutureWarning)

                @pytest.mark.filterwarnings("error")
                def test_marked(self):
                    warnings.warn("this one too", FutureWarning)


            if __name__ == "__main__":
                run_tests()
            """,
        )

    def command(self, *arguments, **env):
        done = self.run_command(sys.executable, *arguments, **env)
        self.assertEqual(done.left_processes, [])
        return done.code, done.out + done.err

    def test_pytest(self):
        _, out = self.command("-m", "pytest", "-p", "no:cacheprovider")
        self.assertIn("1 failed, 1 passed, 1 warning", out)
        self.assertRegex(out, r"test_warns.py:10: FutureWarning: this API .*away \(ranks 0 and 1\)")
        self.assertIn("FutureWarning: this one too", out)
        _, out = self.command("-m", "pytest", "-p", "no:cacheprovider", "-W", "error")
        self.assertIn("2 failed", out)

    def test_unittest(self):
        name = "test_warns.TestWarns.test_warns"
        code, out = self.command("-m", "unittest", name)
        self.assertEqual((code, len(re.findall(r"away \(ranks 0 and 1\)", out))), (0, 1), out)
        code, out = self.command("-W", "error", "-m", "unittest", name)
        self.assertIn("FAILED (errors=1)", out)
        code, out = self.command("-m", "unittest", name, PYTHONWARNINGS="error::FutureWarning")
        self.assertIn("FAILED (errors=1)", out)

    def test_runner(self):
        for jobs in ("0", "1"):
            arguments = ("-m", "harness", "-j", jobs, "test_warns.TestWarns.test_warns")
            code, out = self.command(*arguments)
            self.assertEqual((code, len(re.findall(r"away \(ranks 0 and 1\)", out))), (0, 1), out)
            code, out = self.command("-W", "error", *arguments)
            self.assertIn("0 passed, 1 failed, 0 skipped", out)

    def test_script(self):
        _, out = self.command("test_warns.py", "-k", "test_warns")
        self.assertEqual(len(re.findall(r"away \(ranks 0 and 1\)", out)), 1, out)
