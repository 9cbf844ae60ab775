"""A test that returns a coroutine or a generator has not run, and never passes."""

from __future__ import annotations

import sys
import unittest
import warnings

from harness import MultiProcessTestCase, MultiThreadedTestCase, TestCase
from suites.samples import returning
from suites.selftest.support import ROOT, CommandTestCase, run_case

CLASSES = (
    returning.Plain,
    returning.Processes,
    returning.Threads,
    returning.Continuous,
    returning.Based,
)


class TestBodies(unittest.TestCase):
    def check(self, cls, method, *texts):
        with self.subTest(f"{cls.__name__}.{method}"), warnings.catch_warnings():
            warnings.simplefilter("error")  # "never awaited" among them
            result = run_case(cls, method)
            self.assertEqual(result.status, "error", result.text)
            for text in texts:
                self.assertIn(text, result.text)

    def test_each_class(self):
        for cls in CLASSES:
            for method, text in returning.SAID.items():
                said = f"BodyNotRunError: Bodies.{method}() {text}, so its body did not run: "
                self.check(cls, method, said, f"in {method}")

    def test_each_fixture(self):
        for cls, text in returning.FIXTURES.items():
            self.check(cls, "test_set_up", text)

    def test_each_decorator(self):
        for method in unittest.defaultTestLoader.getTestCaseNames(returning.Decorated):
            self.check(returning.Decorated, method, "BodyNotRunError: ")
        self.check(returning.ByTorchs, "test_parametrized_x_1", returning.COROUTINE)
        self.check(returning.OnThreads, "test_threads", returning.COROUTINE)
        self.check(returning.OnThreads, "test_on_ranks", "body() returned a coroutine")

    def test_what_passes(self):
        result = run_case(returning.Fine, "test_runs_a_coroutine")
        self.assertEqual(result.status, "passed", result.text)

    def test_another_value(self):
        """As unittest does."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result = run_case(returning.Fine, "test_returns_a_value")
        self.assertEqual(result.status, "passed", result.text)
        self.assertEqual([w.category for w in caught], [DeprecationWarning])
        self.assertIn("test_returns_a_value", str(caught[0].message))


class TestAsyncBase(unittest.TestCase):
    def test_classes_with_ranks_refuse_it(self):
        for base in (MultiProcessTestCase, MultiThreadedTestCase):
            with self.assertRaisesRegex(TypeError, "Both: tests with ranks cannot be coroutines"):
                type("Both", (base, unittest.IsolatedAsyncioTestCase), {})

    def test_a_class_without_ranks_takes_it(self):
        ran = []

        class Both(TestCase, unittest.IsolatedAsyncioTestCase):
            async def asyncSetUp(self):
                ran.append("set-up")

            async def test_coroutine(self):
                ran.append("test")
                self.assertEqual(1, 2)

        self.assertEqual(run_case(Both, "test_coroutine").status, "failed")
        self.assertEqual(ran, ["set-up", "test"])


class TestWaysIn(CommandTestCase):
    def setUp(self):
        super().setUp()
        text = (ROOT / "suites/samples/returning.py").read_text()
        self.write("test_returning.py", text)
        self.names = [f"test_returning.{name}" for name in ("Plain", "Processes", "Threads")]

    def test_unittest(self):
        done = self.run_command(sys.executable, "-m", "unittest", *self.names)
        self.assertIn("Ran 15 tests", done.err)
        self.assertIn("FAILED (errors=15)", done.err)
        self.assertNotIn("never awaited", done.err)

    def test_pytest(self):
        done = self.run_command(
            sys.executable, "-m", "pytest", "-p", "no:cacheprovider",
            *(name.replace(".", ".py::") for name in self.names),
        )  # fmt: skip
        self.assertIn(" 15 failed", done.out)
        self.assertNotIn("never awaited", done.out)

    def test_runner(self):
        done = self.harness(*self.names)
        self.assertEqual((done.code, done.last_line), (1, "0 passed, 15 failed, 0 skipped"))
        self.assertNotIn("never awaited", done.out)

    def test_drop_in(self):
        """Under PyTorch's own TestCase and names."""
        self.write(
            "test_theirs.py",
            """
            from torch.testing._internal.common_distributed import MultiProcessTestCase
            from torch.testing._internal.common_utils import (
                instantiate_parametrized_tests, parametrize, run_tests,
            )

            class TestTheirs(MultiProcessTestCase):
                world_size = 2

                def setUp(self):
                    super().setUp()
                    self._spawn_processes()

                async def test_coroutine(self):
                    raise AssertionError

                def test_generator(self):
                    yield

                @parametrize("x", [1, 2])
                async def test_parametrized(self, x):
                    raise AssertionError

            instantiate_parametrized_tests(TestTheirs)

            if __name__ == "__main__":
                run_tests()
            """,
        )
        done = self.harness("--torch-checkout", ".", "test_theirs.py")
        self.assertEqual((done.code, done.last_line), (1, "0 passed, 4 failed, 0 skipped"))
        self.assertEqual(done.out.count("so its body did not run"), 4 * 2)
