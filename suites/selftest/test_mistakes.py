"""Mistakes that everybody makes once: each is reported with what to do about it."""

from __future__ import annotations

import unittest

from harness import (
    MultiProcessTestCase,
    TestCase,
    backends,
    devices,
    instantiate_parametrized_tests,
    isolation,
    nodes,
    parametrize,
    requires_world_size,
    skip_but_pass_in_sandcastle,
    skip_if_lt_x_gpu,
    timeout,
    world_sizes,
)
from harness.common_distributed import with_dist_debug_levels
from suites.selftest.support import CommandTestCase, run_case


def a_test(self):
    """The test that the decorators below receive in place of their argument."""


class TestWithoutParentheses(unittest.TestCase):
    def test_the_decorator_says_how_it_is_written(self):
        for decorator, example in (
            (timeout, "@timeout(5)"),
            (isolation, '@isolation("group")'),
            (nodes, "@nodes(2)"),
            (skip_if_lt_x_gpu, "@skip_if_lt_x_gpu(2)"),
            (requires_world_size, "@requires_world_size(2)"),
            (skip_but_pass_in_sandcastle, '@skip_but_pass_in_sandcastle("reason")'),
            (with_dist_debug_levels, '@with_dist_debug_levels(["DETAIL"])'),
            (world_sizes, "@world_sizes(2, 4)"),
            (backends, '@backends("gloo", "nccl")'),
            (devices, '@devices("cpu", "cuda")'),
        ):
            with self.subTest(example), self.assertRaises(TypeError) as raised:
                decorator(a_test)
            self.assertEqual(
                str(raised.exception), f"a_test: the decorator needs arguments: write {example}"
            )


class TestWithoutInstantiation(unittest.TestCase):
    def check(self, decorator, base):
        cls = type("Generic", (base,), {"test_x": decorator(a_test), "world_size": 2})
        result = run_case(cls, "test_x")
        self.assertEqual(result.status, "error", result.text)
        self.assertIn("decorate the class with @instantiate_parametrized_tests", result.text)

    def test_the_class_needs_a_decorator(self):
        self.check(parametrize("x", [1]), TestCase)
        self.check(world_sizes(2), MultiProcessTestCase)

    def test_instances_run(self):
        from torch.testing._internal import common_utils as theirs

        for instantiate in (instantiate_parametrized_tests, theirs.instantiate_parametrized_tests):

            def test_x(self, x):
                self.assertEqual(x, 1)

            cls = type("Generic", (TestCase,), {"test_x": parametrize("x", [1])(test_x)})
            result = run_case(instantiate(cls), "test_x_x_1")
            self.assertEqual(result.status, "passed", result.text)


class TestCommands(CommandTestCase):
    def test_hints(self):
        self.write(
            "test_it.py",
            """
            import torch
            import torch.distributed as dist
            from harness import MultiProcessTestCase, MultiThreadedTestCase

            class TestIt(MultiProcessTestCase):
                world_size = 2
                def test_no_group(self):
                    dist.all_reduce(torch.ones(2))
                def test_environment(self):
                    dist.init_process_group("gloo")

            class TestThreads(MultiThreadedTestCase):
                world_size = 2
                def test_it(self):
                    self.init_process_group()

            class TestNames(MultiProcessTestCase):
                worldsize = 2
                def perRankSetup(self):
                    self.x = 1
                def test_it(self):
                    self.x

            class TestIsolation(MultiProcessTestCase):
                isolation = "groups"
                def test_it(self):
                    pass

            class TestMethod(MultiProcessTestCase):
                def world_size(self):
                    return 2
                def test_it(self):
                    pass
            """,
        )
        done = self.harness("test_it.py", "-j", "1")
        self.assertEqual(done.last_line, "0 passed, 6 failed, 0 skipped", done.out)
        for text in (
            "hint: call self.init_process_group() first: a rank starts without a process group",
            "hint: call self.init_process_group() instead of torch's function",
            "hint: leave out init_process_group(): the process group is up when the test starts",
            "hint: TestNames.worldsize has no effect; did you mean world_size?",
            "hint: TestNames.perRankSetup has no effect; did you mean perRankSetUp?",
            "TestIsolation.isolation = 'groups': isolation must be one of process, group, none",
            "TestMethod.world_size is a method: make it a property (@property) or a class attr",
        ):
            self.assertIn(text, done.out)
        self.assertNotIn("overrides.py", done.out)  # the error is at the line of the test

    def test_misspelled_options(self):
        for word, meant in {
            "--jnuit": "; did you mean --junit?",
            "--fail-fast": "; did you mean --failfast?",
            "--retry=2": "; did you mean --retries?",
            "--no-such": " (see",
        }.items():
            done = self.harness(word)
            self.assertIn(f"unrecognized arguments: {word}{meant}", done.err)

    def test_a_name_in_a_folder_without_tests(self):
        self.assertIn("there are no test files (test_*.py)", self.harness("TestX.test_y").err)


if __name__ == "__main__":
    unittest.main()
