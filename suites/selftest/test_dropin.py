"""Test files written for PyTorch's own harness, unchanged, on ranks of this one."""

from __future__ import annotations

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


class CheckoutTestCase(CommandTestCase):
    """Runs what is in a folder that looks like a PyTorch checkout."""

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


class TestDropIn(CheckoutTestCase):
    def test_a_checkout(self):
        """Without names, all distributed files run: sound ones, and some that cannot be."""
        folder = "pytorch/test/distributed"
        self.write("pytorch/test/test_elsewhere.py", "raise RuntimeError('not a distributed test')")
        self.write(f"{folder}/test_new.py", "from torch import not_yet_there")
        self.write(
            f"{folder}/test_the_environment.py",  # after test_own.py, whose tests change it
            """
            import os
            import unittest
            from pathlib import Path

            class TestEnvironment(unittest.TestCase):
                def test_values(self):
                    values = [os.environ[name] for name in ("BACKEND", "WORLD_SIZE", "INIT_METHOD")]
                    values.append(sorted(os.listdir(os.environ["TEMP_DIR"])))
                    Path(os.environ["OUT"]).write_text(" ".join(map(str, values)))
            """,
        )
        self.write(
            f"{folder}/test_hook.py",
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
        text = self.file.read_bytes()
        finished = self.run_it("-j", "1", WORLD_SIZE="3", OUT=str(self.folder / "values"))
        self.assertEqual(finished.last_line, "5 passed, 3 failed, 1 skipped", finished.out)
        self.assertEqual(finished.code, 1)
        self.assertIn("harness.RanksDiedError: 1 of 2 ranks killed by SIGKILL", finished.out)
        self.assertRegex(finished.out, r"1  (needs at least 2 GPUs|CUDA is not available)")
        self.assertIn("cannot import name 'not_yet_there'", finished.out)
        self.assertIn("TestHook._run(rank, test_name) overrides a hook", finished.out)
        self.assertRegex(
            (self.folder / "values").read_text(),
            r"gloo 3 file:///.*/shared_init_file \['barrier', 'init_dir', 'test_dir'\]",
        )
        self.assertEqual(self.file.read_bytes(), text)
        self.assert_clean(finished)

    def test_spawned_ranks(self):
        """Slow: each rank is an interpreter that imports torch, and PyTorch's helpers."""
        tests = ("-k", "sum", "-k", "dies")
        finished = self.run_it("distributed/test_own.py", *tests, HARNESS_START_METHOD="spawn")
        self.assertEqual(finished.last_line, "1 passed, 1 failed, 0 skipped", finished.out)
        self.assertIn("harness.RanksDiedError: 1 of 2 ranks killed by SIGKILL", finished.out)
        self.assert_clean(finished)

    def test_load_tests(self):
        """PyTorch's `load_tests` wants the classes to be those of the running script."""
        path = self.write(
            "pytorch/test/distributed/test_loads.py",
            """
            from torch.testing._internal.common_utils import load_tests, run_tests, TestCase
            from test_own import TestOwn

            load_tests = load_tests

            class TestLoaded(TestCase):
                def test(self):
                    pass

            if __name__ == "__main__":
                run_tests()
            """,
        )
        finished = self.run_it("distributed/test_loads.py")
        # As when it is run as a script: TestOwn is defined in another file.
        self.assertEqual(finished.last_line, "0 passed, 1 failed, 0 skipped", finished.out)
        self.assertIn("Did you accidentally import a unittest.TestCase", finished.out)
        path.write_text(
            path.read_text()
            .replace("import TestOwn", "import SUITE")
            .replace("from test_own import SUITE", "")
        )
        for jobs in ("0", "1"):
            finished = self.run_it("distributed/test_loads.py", "-j", jobs)
            self.assertEqual(finished.last_line, "1 passed, 0 failed, 0 skipped", finished.out)
        plain = self.run_command(sys.executable, RUNNER, str(path))
        self.assertEqual(plain.last_line, "1 passed, 0 failed, 0 skipped", plain.out)

    def test_thread_ranks(self):
        """What PyTorch's test_multi_threaded_pg.py expects of thread ranks."""
        self.write(
            "pytorch/test/distributed/test_threads.py",
            """
            import torch
            import torch.distributed as dist
            from torch.testing._internal.common_distributed import (
                MultiThreadedTestCase,
                spawn_threads_and_init_comms,
            )
            from torch.testing._internal.common_utils import TestCase

            class TestWrapper(TestCase):
                def test_error_is_caught(self):
                    @spawn_threads_and_init_comms(world_size=3)
                    def method(self):
                        dist.barrier()
                        if dist.get_rank() == 1:
                            raise AssertionError("on rank 1")
                        dist.barrier()

                    with self.assertRaisesRegex(RuntimeError, "on rank 1"):
                        method(self)

            class TestBaseClass(MultiThreadedTestCase):
                world_size = 3

                def setUp(self):
                    super().setUp()
                    self._spawn_threads()

                def test_ranks_draw_differently(self):
                    own = torch.rand(3)
                    from_0 = own.clone()
                    dist.broadcast(from_0, src=0)
                    self.assertEqualOnRank(own, from_0, rank=0)
                    self.assertNotEqualOnRank(own, from_0, rank=1)
                    self.assertNotEqualOnRank(own, from_0, rank=2)

            class TestTwice(MultiThreadedTestCase):
                world_size = 3

                def setUp(self):
                    super().setUp()
                    self._spawn_threads()
                    first = list(self.threads)
                    self._spawn_threads()
                    assert not any(thread.is_alive() for thread in first)

                def test_the_last_ranks_count(self):
                    ones = torch.ones(1)
                    dist.all_reduce(ones)
                    self.assertEqual(ones.item(), 3)
            """,
        )
        finished = self.run_it("distributed/test_threads.py")
        self.assertEqual(finished.last_line, "3 passed, 0 failed, 0 skipped", finished.out)
        self.assert_clean(finished)

    def listed(self, *arguments):
        finished = self.run_it("--list", *arguments)
        self.assertEqual(finished.code, 0, finished.err)
        return finished.out.split()

    def test_names_and_patterns(self):
        names = self.listed("distributed/test_own.py", "TestOwn", "-k", "sum")
        self.assertEqual(names, ["test_own.TestOwn.test_sum"])
        self.checkout = str(self.folder / "pytorch/test/distributed")
        self.assertEqual(len(self.listed()), 6)

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


class TestCompare(CheckoutTestCase):
    def test_both_harnesses(self):
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
        self.assertRegex(finished.out, r"this one:  1 passed, 1 failed, 0 skipped, [\d.]+ s")
        self.assert_clean(finished)


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
        again = re.search("rerun: (.*)", finished.out)[1]
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
                from harness.cases.world_mixin import WorldTestMixin

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

    def test_at_its_root(self):
        self.copy_to(self.folder)
        # A name that nothing else has: an installation of this project for developers has another
        # `suites` on the path, before the checkout's.
        (self.folder / "suites").rename(self.folder / "suites_of_checkout")
        names = (
            "suites_of_checkout.test_ddp_gloo.TestDDPSingleProcess.test_cpu",
            "suites_of_checkout.samples.sound.WithoutSetUpCode.test_all_reduce",
        )
        run = [sys.executable, "run_tests.py", *names]
        finished = self.run_command(*run, cwd=self.folder, PYTHONPATH=None)
        self.assertEqual(finished.last_line, "2 passed, 0 failed, 0 skipped", finished.err)
        self.assertIn(f"the torch in {self.folder} is not built", finished.err)

    def test_in_its_folder_of_tests(self):
        self.copy_to(self.folder / "test")
        ranks = "suites.samples.sound.WithoutSetUpCode.test_all_reduce"
        finished = self.run_command(
            *(sys.executable, "-m", "unittest", ranks),
            cwd=self.folder / "test", PYTHONPATH=None, HARNESS_START_METHOD="spawn",
        )  # fmt: skip
        self.assertEqual(finished.code, 0, finished.err)

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
