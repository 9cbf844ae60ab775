"""Property tests under the runner, unittest and pytest, as whole commands."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from suites.selftest.support import CommandTestCase

SUITE = """
    import os, torch, torch.distributed as dist
    from hypothesis import given, settings, strategies as st, reproduce_failure, seed
    from harness import MultiProcessTestCase

    class TestIt(MultiProcessTestCase):
        world_size = 2

        {decorator}
        @settings(max_examples=100)
        @given(values=st.lists(st.integers(-9, 9), min_size=1))
        def test_it(self, values):
            self.init_process_group()
            x = torch.tensor(values)
            dist.all_reduce(x)
            if self.rank == 1 and len(values) >= 3:
                x += 1
            self.assertEqual(x, 2 * torch.tensor(values))
"""


class TestWaysIn(CommandTestCase):
    """Slow: whole commands."""

    def test_reproduce(self):
        self.write("test_it.py", SUITE.format(decorator=""))
        finished = self.harness("test_it")
        self.assertEqual(finished.last_line, "0 passed, 1 failed, 0 skipped", finished.out)
        self.assertEqual(finished.out.count("values=[0, 0, 0],"), 1)
        (blob,) = re.findall(r"adding (@reproduce_failure\(.*\)) as", finished.out)
        self.assert_clean(finished)
        self.write("test_it.py", SUITE.format(decorator=blob))
        for command in (
            ("-m", "harness", "test_it"),
            ("-m", "unittest", "test_it"),
            ("-m", "pytest", "-q", "test_it.py"),
        ):
            with self.subTest(command[1]):
                finished = self.run_command(sys.executable, *command)
                self.assertEqual(finished.code, 1)
                text = finished.out + finished.err
                self.assertEqual(text.count("values=[0, 0, 0],"), 1, text)
                self.assertIn("1 of 2 ranks failed (rank 0 passed)", text)
                self.assert_clean(finished)

    def in_all_ways(self, module, *options):
        """Run a test file by the runner, unittest and pytest; returns code and output of each."""
        for command in (
            ("-m", "harness", "-j", "0", *options, f"{module}.py"),
            ("-m", "unittest", f"{module}.py"),
            ("-m", "pytest", "-q", f"{module}.py"),
        ):
            with self.subTest(command[1]):
                cache = str(self.sandbox.base / "cache")  # torch's own, which stays
                env = {"HARNESS_LEAKS": "error", "TORCHINDUCTOR_CACHE_DIR": cache}
                finished = self.run_command(sys.executable, *command, **env)
                self.assert_clean(finished)
                yield command[1], finished.code, finished.out + finished.err

    def test_a_plain_test_after_one_without_an_example(self):
        self.write(
            "test_it.py",
            """
            from hypothesis import assume, given
            from hypothesis import strategies as st

            from harness import MultiProcContinuousTest

            class TestGiven(MultiProcContinuousTest):
                world_size = 2

                @classmethod
                def backend_str(cls):
                    return "gloo"

                @given(st.integers())
                def test_a_never(self, n):
                    assume(False)

                def test_b_plain(self):
                    pass

                @given(st.integers())
                def test_c_never(self, n):
                    assume(False)

                @given(st.integers())
                def test_d_given(self, n):
                    pass
            """,
        )
        for way, code, text in self.in_all_ways("test_it", "--timeout", "4"):
            self.assertEqual(code, 1)
            self.assertNotIn("RanksTimedOutError", text)
            last = {
                "harness": "2 passed, 2 failed, 0 skipped",
                "unittest": "FAILED (errors=2)",
                "pytest": "2 failed, 2 passed",
            }
            self.assertIn(last[way], text)

    def test_nested(self):
        self.write(
            "test_it.py",
            """
            from hypothesis import given, settings
            from hypothesis import strategies as st

            from harness import MultiProcessTestCase

            class TestNested(MultiProcessTestCase):
                world_size = 2

                @settings(max_examples=2)
                @given(st.booleans())
                def test_outer(self, x):
                    @given(st.booleans())
                    def inner(y):
                        raise AssertionError("the inner property is wrong")

                    inner()
            """,
        )
        for _, code, text in self.in_all_ways("test_it"):
            self.assertEqual(code, 1)
            self.assertIn("AssertionError: the inner property is wrong", text)

    def test_something_is_done_to_a_rank(self):
        self.write(
            "test_it.py",
            """
            import torch.distributed as dist
            from hypothesis import given, settings
            from hypothesis import strategies as st

            from harness import (
                MultiProcContinuousTest, MultiProcessTestCase, kill_rank, stop_rank
            )

            class TestReused(MultiProcContinuousTest):
                world_size = 2

                @classmethod
                def backend_str(cls):
                    return "gloo"

                @kill_rank(1, at=1, survivors_raise=RuntimeError)
                def test_kill(self):
                    dist.barrier()

                @stop_rank(1, at=1)
                def test_stop(self):
                    if self.rank == 1:
                        dist.barrier()

            class TestAboveGiven(MultiProcessTestCase):
                world_size = 2

                @kill_rank(1, at=1, survivors_raise=RuntimeError)
                @given(st.integers())
                @settings(max_examples=3, deadline=None)
                def test_kill_given(self, n):
                    self.init_process_group()
                    dist.barrier()
            """,
        )
        for _, code, text in self.in_all_ways("test_it"):
            self.assertEqual(code, 0, text)

    def test_pytest_and_its_seed(self):
        self.write("test_it.py", SUITE.format(decorator=""))
        command = ("-m", "pytest", "-q", "--hypothesis-seed=3", "test_it.py")
        finished = self.run_command(sys.executable, *command)
        self.assertEqual(finished.out.count("values=[0, 0, 0],"), 1, finished.out)
        self.assertIn("1 of 2 ranks failed (rank 0 passed)", finished.out)
        self.assertIn("1 failed", finished.out)
        self.assert_clean(finished)

    def test_without_hypothesis(self):
        """The harness does not import it for tests that do not use it."""
        self.write("hypothesis.py", "raise ImportError('not here')")
        self.write(
            "test_it.py",
            """
            from harness import MultiProcessTestCase, MultiThreadedTestCase

            class TestIt(MultiProcessTestCase):
                world_size = 2
                def test_it(self):
                    self.init_process_group()

            class TestThreads(MultiThreadedTestCase):
                def test_it(self):
                    pass
            """,
        )
        finished = self.harness("test_it", PYTHONPATH=f"{Path.cwd()}")
        self.assertEqual(finished.last_line, "2 passed, 0 failed, 0 skipped", finished.out)
