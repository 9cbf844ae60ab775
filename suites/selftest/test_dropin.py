"""Test files written for PyTorch's own harness, unchanged, on ranks of this one."""

from __future__ import annotations

import json
import re
import shutil
import sys
import textwrap

from suites.selftest.support import ROOT, CommandTestCase

RUNNER = str(ROOT / "run_tests.py")

SUITE = """
    import os
    import signal
    import sys

    import torch
    import torch.distributed as dist
    from torch.testing._internal.common_distributed import (
        DistributedTestBase,
        MultiProcessTestCase,
        requires_gloo,
        skip_if_lt_x_gpu,
    )
    from torch.testing._internal.common_utils import run_tests, TestCase


    class TestOwn(MultiProcessTestCase):
        @property
        def world_size(self):
            return 2

        def setUp(self):
            super().setUp()
            self._spawn_processes()

        def tearDown(self):
            super().tearDown()
            try:
                os.remove(self.file_name)
            except OSError:
                pass

        def init(self):
            store = dist.FileStore(self.file_name, self.world_size)
            dist.init_process_group("gloo", store=store, rank=self.rank, world_size=2)

        @requires_gloo()
        def test_sum(self):
            self.init()
            x = torch.ones(2) * self.rank
            dist.all_reduce(x)
            self.assertEqual(x, torch.ones(2))

        @skip_if_lt_x_gpu(2)
        def test_gpus(self):
            raise AssertionError

        def test_dies_unnoticed(self):
            if self.rank == 1:
                os.kill(os.getpid(), signal.SIGKILL)

        def test_base_class(self):
            self.assertIsInstance(self, TestCase)
            self.assertTrue(type(self).assertEqual is TestCase.assertEqual)


    class TestBase(DistributedTestBase):
        @property
        def world_size(self):
            return 2

        def test_create_pg(self):
            self.create_pg("cpu", 2)
            dist.barrier()


    class TestPlain(TestCase):
        def test_no_ranks(self):
            self.assertEqual(1, 1)


    if __name__ == "__main__":
        run_tests()
    """


class TestDropIn(CommandTestCase):
    def setUp(self):
        super().setUp()
        self.file = self.write("pytorch/test/distributed/test_own.py", SUITE)
        self.checkout = str(self.folder / "pytorch")

    def run_it(self, *arguments, **env):
        # torch's own cache of compiled code, made when PyTorch's helpers are imported; it stays.
        env["TORCHINDUCTOR_CACHE_DIR"] = str(self.sandbox.base / "cache")
        return self.run_command(
            sys.executable, RUNNER, "--torch-checkout", self.checkout, *arguments, **env
        )

    def check_verdicts(self, finished):
        self.assertEqual(finished.last_line, "4 passed, 1 failed, 1 skipped", finished.out)
        self.assertEqual(finished.code, 1)
        self.assertIn("harness.RanksDiedError: 1 of 2 ranks killed by SIGKILL", finished.out)
        self.assertRegex(finished.out, r"1  (needs at least 2 GPUs|CUDA is not available)")
        self.assert_clean(finished)

    def test_a_file(self):
        text = self.file.read_bytes()
        self.check_verdicts(self.run_it("distributed/test_own.py"))
        self.assertEqual(self.file.read_bytes(), text)

    def test_spawned_ranks(self):
        finished = self.run_it("-k", "sum", "-k", "dies", HARNESS_START_METHOD="spawn")
        self.assertEqual(finished.last_line, "1 passed, 1 failed, 0 skipped", finished.out)
        self.assertIn("harness.RanksDiedError: 1 of 2 ranks killed by SIGKILL", finished.out)
        self.assert_clean(finished)

    def listed(self, *arguments):
        finished = self.run_it("--list", *arguments)
        self.assertEqual(finished.code, 0, finished.err)
        return finished.out.split()

    def test_names_and_patterns(self):
        names = self.listed("distributed/test_own.py", "TestOwn", "-k", "sum")
        self.assertEqual(names, ["test_own.TestOwn.test_sum"])

    def test_without_names_all_distributed_files(self):
        self.write("pytorch/test/test_elsewhere.py", "raise RuntimeError('not a distributed test')")
        names = self.listed()
        self.assertEqual(len(names), 6, names)
        self.checkout = str(self.folder / "pytorch/test/distributed")
        self.assertEqual(self.listed(), names)

    def test_environment(self):
        self.write(
            "pytorch/test/distributed/test_environment.py",
            """
            import os
            import unittest

            class TestEnvironment(unittest.TestCase):
                def test_values(self):
                    values = [os.environ[name] for name in ("BACKEND", "WORLD_SIZE", "INIT_METHOD")]
                    print(*values, sorted(os.listdir(os.environ["TEMP_DIR"])))
            """,
        )
        finished = self.run_it("-s", "distributed/test_environment.py", WORLD_SIZE="3")
        self.assertRegex(
            finished.out,
            r"gloo 3 file:///.*/shared_init_file \['barrier', 'init_dir', 'test_dir'\]",
        )
        self.assert_clean(finished)

    def test_a_file_of_another_torch(self):
        self.write("pytorch/test/distributed/test_new.py", "from torch import not_yet_there")
        finished = self.run_it()
        self.assertEqual(finished.last_line, "4 passed, 2 failed, 1 skipped")
        self.assertIn("cannot import name 'not_yet_there'", finished.out)
        self.assertEqual(finished.code, 1)

    def test_another_hook_signature(self):
        self.write(
            "pytorch/test/distributed/test_hook.py",
            """
            from torch.testing._internal.common_distributed import MultiProcessTestCase

            class TestHook(MultiProcessTestCase):
                @classmethod
                def _run(cls, rank, test_name):
                    pass

                def test(self):
                    pass
            """,
        )
        finished = self.run_it("distributed/test_hook.py")
        self.assertEqual(finished.code, 1)
        self.assertIn("TestHook._run(rank, test_name) overrides a hook", finished.out)

    def test_bad_input(self):
        for arguments, message in (
            (("distributed/test_nothing.py",), "there is no file distributed/test_nothing.py in"),
            (("TestNobody",), "no test is called 'TestNobody'"),
        ):
            finished = self.run_it(*arguments)
            self.assertEqual(finished.code, 2, finished.err)
            self.assertIn(message, finished.err)
            self.assertEqual(finished.err.count("\n"), 1, finished.err)
        self.checkout = str(self.folder / "nowhere")
        finished = self.run_it()
        self.assertEqual((finished.code, finished.err.count("\n")), (2, 1))
        self.assertIn("--torch-checkout: there is no folder", finished.err)
        (self.folder / "nowhere").mkdir()
        self.assertIn("there are no test files in", self.run_it().err)

    def test_comparison(self):
        """Slow: PyTorch's harness starts two interpreters for each test."""
        tests = ["-k", "dies", "-k", "no_ranks"]
        finished = self.run_it("distributed/test_own.py", "--compare", *tests)
        self.assertEqual(finished.code, 1)
        self.assertRegex(
            finished.out,
            r"  test_own\.TestOwn\.test_dies_unnoticed\n"
            r"    PyTorch's: passed\n"
            r"    this one:  failed \(harness\.RanksDiedError: 1 of 2 ranks killed by SIGKILL",
        )
        self.assertIn("1 of 2 verdicts differ", finished.out)
        self.assertRegex(finished.out, r"PyTorch's: 2 passed, 0 failed, 0 skipped, [\d.]+ s\n")
        faster = re.search(r"([\d.]+) times faster", finished.out)
        self.assertGreater(float(faster[1]), 1)
        self.assert_clean(finished)

    def test_comparison_as_json(self):
        finished = self.run_it("distributed/test_own.py", "--compare", "--json", "-k", "no_ranks")
        self.assertEqual(finished.code, 0, finished.err)
        (found,) = json.loads(finished.out)
        self.assertEqual(found["differences"], [])
        self.assertEqual(
            found["ours"]["verdicts"], {"test_own.TestPlain.test_no_ranks": ["passed", ""]}
        )


class TestBases(CommandTestCase):
    """PyTorch's other base classes for ranks, and its helpers that build on them."""

    def test_each_base(self):
        checkout = str(ROOT / "suites/samples/pytorch")
        finished = self.run_command(
            sys.executable,
            RUNNER,
            "--torch-checkout",
            checkout,
            "distributed/test_bases.py",
            TORCHINDUCTOR_CACHE_DIR=str(self.sandbox.base / "cache"),
        )
        self.assertEqual(finished.last_line, "12 passed, 1 failed, 3 skipped", finished.out)
        self.assertIn("harness.RanksFailedError: 1 of 2 ranks failed", finished.out)
        again = re.search("again: (.*)", finished.out)[1]
        # Paths may have a space, and then quotes.
        self.assertRegex(again, r"--torch-checkout .+test_bases\.py'? ContinuousFailing\.test_a_fa")
        self.assert_clean(finished)

    def test_they_are_ours(self):
        done = self.run_command(
            sys.executable,
            "-c",
            textwrap.dedent(
                """
                from harness.dropin import active
                from torch.testing._internal import common_distributed, common_fsdp
                from torch.testing._internal.distributed import distributed_test, rpc_utils
                from torch.testing._internal.distributed._tensor import common_dtensor
                from harness.cases.world_tests import WorldTestMixin

                for module in (
                    common_distributed, common_fsdp, distributed_test, rpc_utils, common_dtensor
                ):
                    for name, value in vars(module).items():
                        is_ranked = hasattr(value, "join_or_run") or hasattr(value, "poison_pill")
                        if isinstance(value, type) and is_ranked:
                            print(name, issubclass(value, WorldTestMixin))
                """
            ),
            BACKEND="gloo",
            WORLD_SIZE="2",
        )
        found = dict(line.split() for line in done.out.splitlines())
        self.assertEqual(set(found.values()), {"True"}, found)
        self.assertGreaterEqual(
            set(found), {"DTensorOpTestBase", "FSDPTest", "SpawnHelper", "TestDistBackend"}
        )


class TestInsideACheckout(CommandTestCase):
    """The package's folders are copied into a checkout whose own torch is not built."""

    def setUp(self):
        super().setUp()
        self.write("torch/__init__.py", "raise ImportError('this torch is not built')")
        self.write("test/test_theirs.py", "raise ImportError('one of theirs')")

    def copy_to(self, folder):
        for name in ("harness", "suites"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        shutil.copy(ROOT / "run_tests.py", folder)

    def check(self, folder, method):
        env = {"PYTHONPATH": None}
        name = "suites.test_ddp_gloo.TestDDPSingleProcess.test_cpu"
        finished = self.run_command(sys.executable, "run_tests.py", name, cwd=folder, **env)
        self.assertEqual(finished.last_line, "1 passed, 0 failed, 0 skipped", finished.err)
        ranks = "suites.samples.sound.WithoutSetUpCode.test_all_reduce"
        unittest = [sys.executable, "-m", "unittest", ranks]
        done = self.run_command(*unittest, cwd=folder, HARNESS_START_METHOD=method, **env)
        self.assertEqual(done.code, 0, done.err)
        return finished

    def test_at_its_root(self):
        self.copy_to(self.folder)
        finished = self.check(self.folder, "forkserver")
        self.assertIn(f"the torch in {self.folder} is not built", finished.err)

    def test_in_its_folder_of_tests(self):
        self.copy_to(self.folder / "test")
        self.check(self.folder / "test", "spawn")

    def test_no_other_torch(self):
        self.copy_to(self.folder)
        done = self.run_command(
            sys.executable,
            "-c",
            "import sys; from harness.model.installed_torch import use_installed_torch as use;"
            "sys.path[:] = [p for p in sys.path if 'site-packages' not in p]; use()",
            PYTHONPATH=None,
        )
        self.assertIn("TorchMissingError: the torch in", done.err)
        self.assertIn("is not built, and no other is installed: build it there", done.err)
