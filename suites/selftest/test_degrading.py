"""Where torch is missing, or was built without a part of it: what works, and what is said."""

from __future__ import annotations

from suites.selftest.support import CommandTestCase

# What a build without torch, or without a part of it, looks like from Python.
LACKING = """
    import importlib.machinery as machinery, os

    lacks = os.environ.get("LACKS", "")
    find, execute = machinery.PathFinder.find_spec, machinery.ExtensionFileLoader.exec_module

    def find_spec(cls, name, path=None, target=None):
        hidden = lacks == "torch" and name.split(".")[0] == "torch"
        return None if hidden else find(name, path, target)

    def exec_module(self, module):
        execute(self, module)
        if module.__name__ != "torch._C":
            return
        if lacks == "distributed":
            for name in ("_c10d_init", "_rpc_init", "_dist_autograd_init", "_faulty_agent_init"):
                if hasattr(module, name):
                    delattr(module, name)
            return
        init = module._c10d_init

        def init_without():
            done = init()
            part = {"gloo": "Gloo", "recorder": "fr_trace"}[lacks]
            names = [name for name in vars(module._distributed_c10d) if part in name]
            assert names, f"torch has nothing called {part} any more"
            for name in names:
                delattr(module._distributed_c10d, name)
            return done

        module._c10d_init = init_without

    if lacks:
        machinery.PathFinder.find_spec = classmethod(find_spec)
        machinery.ExtensionFileLoader.exec_module = exec_module
"""

TESTS = """
    import torch
    import torch.distributed as dist
    from harness import (
        MultiProcContinuousTest, MultiProcessTestCase, MultiThreadedTestCase, TestCase,
        requires_gloo, timeout,
    )

    class TestPlain(TestCase):
        def test_equal(self): self.assertEqual(torch.ones(2), torch.ones(2))

    class TestRanks(MultiProcessTestCase):
        world_size = 2
        def test_no_group(self): self.assertIn(self.rank, (0, 1))
        @requires_gloo()
        def test_guarded(self):
            self.init_process_group()
            dist.all_reduce(torch.ones(1))
        def test_group(self): self.init_process_group()
        @timeout(3)
        def test_desync(self):
            self.init_process_group()
            if self.rank == 0:
                dist.barrier()
            else:
                dist.recv(torch.ones(1), 0)

    class TestContinuous(MultiProcContinuousTest):
        world_size = 2
        @classmethod
        def backend_str(cls): return "gloo"
        def test_rank(self): self.assertIn(self.rank, (0, 1))

    class TestThreads(MultiThreadedTestCase):
        world_size = 2
        def setUp(self):
            super().setUp()
            self._spawn_threads()
        def test_sum(self):
            x = torch.ones(1)
            dist.all_reduce(x)
            self.assertEqual(x.item(), 2)
"""


class TestLacking(CommandTestCase):
    def run_lacking(self, part, *arguments):
        self.write("lacking/sitecustomize.py", LACKING)
        self.write("test_mixed.py", TESTS)
        done = self.harness(
            "-v", "--no-history", *arguments, LACKS=part, PYTHONPATH=str(self.folder / "lacking")
        )
        self.assert_clean(done)
        return done

    def assert_verdicts(self, done, passed=(), skipped=(), failed=()):
        for status, names in (("passed", passed), ("skipped", skipped), ("failed", failed)):
            for name in names:
                self.assertRegex(done.out, rf"(?m)^{status} +[0-9.]+ s  test_mixed\.{name}\b")
        total = [f"{len(passed)} passed", f"{len(failed)} failed", f"{len(skipped)} skipped"]
        self.assertEqual(done.last_line, ", ".join(total), done.out)

    def test_no_torch(self):
        self.write(
            "test_plain.py",
            """
            import unittest
            class TestPlain(unittest.TestCase):
                def test_fine(self): pass
        """,
        )
        self.write("test_ranks.py", "from harness import MultiProcessTestCase")
        done = self.run_lacking("torch", "test_plain.py", "test_ranks.py")
        self.assertEqual((done.code, done.last_line), (1, "1 passed, 1 failed, 0 skipped"))
        self.assertIn("torch is not installed: run `pip install 'torch>=2.6'`", done.out)
        self.assertNotIn("Traceback", done.out + done.err)
        done = self.run_lacking("torch", "test_plain.py")
        self.assertEqual((done.code, done.last_line), (0, "1 passed, 0 failed, 0 skipped"))

    def test_no_distributed(self):
        done = self.run_lacking("distributed")
        self.assert_verdicts(
            done,
            passed=("TestPlain.test_equal", "TestRanks.test_no_group"),
            skipped=("TestRanks.test_guarded", "TestContinuous.test_rank"),
            failed=("TestRanks.test_group", "TestRanks.test_desync", "TestThreads.test_sum"),
        )
        said = "TorchMissingError: this torch was built without torch.distributed"
        self.assertGreaterEqual(done.out.count(said), 3, done.out)

    def test_no_gloo(self):
        done = self.run_lacking("gloo")
        self.assert_verdicts(
            done,
            passed=("TestPlain.test_equal", "TestRanks.test_no_group", "TestThreads.test_sum"),
            skipped=("TestRanks.test_guarded", "TestContinuous.test_rank"),
            failed=("TestRanks.test_group", "TestRanks.test_desync"),
        )
        self.assertIn("torch was built without the gloo backend", done.out)
        self.assertIn("Distributed package doesn't have Gloo built in", done.out)

    def test_no_flight_recorder(self):
        done = self.run_lacking("recorder")
        self.assert_verdicts(
            done,
            passed=(
                "TestPlain.test_equal",
                "TestRanks.test_no_group",
                "TestRanks.test_guarded",
                "TestRanks.test_group",
                "TestContinuous.test_rank",
                "TestThreads.test_sum",
            ),
            failed=("TestRanks.test_desync",),
        )
        # The stacks tell what the recorder cannot.
        self.assertIn("RanksTimedOutError: 2 of 2 ranks timed out after 3 s", done.out)
        self.assertRegex(done.out, r"test_mixed\.py:\d+ in test_desync")
