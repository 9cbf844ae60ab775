"""The ways in: unittest, pytest, a script, the runner; and that all of them clean up."""

from __future__ import annotations

import signal
import sys
import tempfile
import unittest
from pathlib import Path

import psutil

from suites.selftest.support import ROOT, CommandTestCase, wait_for_texts

RANKS = """
    import torch, torch.distributed as dist
    from harness import MultiProcessTestCase, run_tests, skip_if_lt_x_gpu

    class TestSum(MultiProcessTestCase):
        world_size = 2

        def test_all_reduce(self):
            self.init_process_group()
            x = torch.ones(3)
            dist.all_reduce(x)
            self.assertEqual(x, torch.full((3,), 2.0))

        def test_wrong(self):
            self.init_process_group()
            if self.rank == 1:
                self.assertEqual(torch.ones(2), torch.zeros(2), "of rank one")

        @skip_if_lt_x_gpu(9)
        def test_gpus(self):
            pass

    if __name__ == "__main__":
        run_tests()
"""

SLEEPING = """
    import os, time
    from pathlib import Path
    from harness import MultiProcessTestCase

    class TestSleeping(MultiProcessTestCase):
        world_size = 2

        def test_a_quick(self):
            pass

        def test_b_sleeps(self):
            Path(os.environ["OUT"], f"rank{self.rank}").write_text(str(os.getpid()))
            time.sleep(600)
"""


class TestWaysIn(CommandTestCase):
    """The same file through every door: one test passes, one fails, one is skipped."""

    def setUp(self):
        super().setUp()
        self.write("test_sum.py", RANKS)

    def assert_failure_is_shown(self, text):
        for part in ("1 of 2 ranks failed", "rank 1: AssertionError", "of rank one"):
            self.assertIn(part, text)
        self.assertIn("needs at least 9 GPUs, this machine has", text)
        self.assertNotIn("rank_tests.py", text)

    def test_unittest(self):
        done = self.run_command(sys.executable, "-m", "unittest", "-v", "test_sum")
        self.assertEqual(done.code, 1)
        self.assertIn("FAILED (failures=1, skipped=1)", done.err)
        self.assert_failure_is_shown(done.err)
        self.assert_clean(done)

    def test_unittest_main_of_a_script(self):
        self.write("test_main.py", RANKS.replace("run_tests()", "import unittest; unittest.main()"))
        done = self.run_command(sys.executable, "test_main.py")
        self.assertEqual(done.code, 1)
        self.assertIn("FAILED (failures=1, skipped=1)", done.err)
        self.assert_clean(done)

    def test_pytest(self):
        done = self.run_command(sys.executable, "-m", "pytest", "-ra", "-p", "no:cacheprovider")
        self.assertEqual(done.code, 1)
        self.assertIn("1 failed, 1 passed, 1 skipped", done.out)
        self.assert_failure_is_shown(done.out)
        self.assert_clean(done)

    def test_runner(self):
        done = self.harness()
        self.assertEqual((done.code, done.last_line), (1, "1 passed, 1 failed, 1 skipped"))
        self.assert_failure_is_shown(done.out)
        self.assert_clean(done)

    def test_script(self):
        done = self.run_command(sys.executable, "test_sum.py")
        self.assertEqual((done.code, done.last_line), (1, "1 passed, 1 failed, 1 skipped"))
        self.assert_failure_is_shown(done.out)
        self.assert_clean(done)

    def test_script_with_names_and_options_under_spawn(self):
        """Slow: ranks are interpreters that import torch."""
        done = self.run_command(
            sys.executable, "test_sum.py", "-v", "TestSum.test_wrong", "TestSum.test_gpus",
            "--seed", "3", HARNESS_START_METHOD="spawn",
        )  # fmt: skip
        self.assertEqual((done.code, done.last_line), (1, "0 passed, 1 failed, 1 skipped"))
        self.assertRegex(done.out, "skipped .* __main__.TestSum.test_gpus")
        self.assert_failure_is_shown(done.out)
        self.assert_clean(done)


class TestForkingIsNotSafe(CommandTestCase):
    def test_module_that_starts_a_thread(self):
        """Slow: ranks are interpreters that import torch."""
        self.write(
            "test_thread.py",
            """
            import threading, torch, torch.distributed as dist
            from harness import MultiProcessTestCase
            threading.Thread(target=threading.Event().wait, name="poller", daemon=True).start()

            class TestThread(MultiProcessTestCase):
                world_size = 2
                def test(self):
                    self.init_process_group()
                    dist.barrier()
            """,
        )
        done = self.harness()
        self.assertEqual((done.code, done.last_line), (0, "1 passed, 0 failed, 0 skipped"))
        self.assertIn("importing test_thread started 1 thread(s) (poller)", done.err)
        self.assertIn("they are spawned", done.err)
        self.assert_clean(done)

    def test_module_that_crashes_the_server(self):
        """Slow: ranks are interpreters that import torch."""
        self.write(
            "test_crash.py",
            """
            import multiprocessing, os, sys
            from harness import MultiProcessTestCase
            if "multiprocessing.forkserver" in getattr(sys.modules["__main__"], "__dict__", {}).get(
                "main", type("", (), {"__module__": ""})).__module__:
                os._exit(3)

            class TestCrash(MultiProcessTestCase):
                world_size = 1
                def test(self):
                    pass
            """,
        )
        done = self.harness()
        self.assertEqual((done.code, done.last_line), (0, "1 passed, 0 failed, 0 skipped"))
        self.assertIn("the fork server died while importing", done.err)
        self.assert_clean(done)


class TestLearning(CommandTestCase):
    def test_what_ranks_import_is_imported_for_them(self):
        """After some tests a server that has the modules takes over, and ranks import nothing."""
        self.write(
            "test_learn.py",
            """
            import importlib, sys, time
            from pathlib import Path
            from harness import MultiProcessTestCase

            folder = Path(__file__).parent / "many"
            folder.mkdir(exist_ok=True)
            for i in range(60):
                (folder / f"mod{i}.py").touch()

            class TestLearn(MultiProcessTestCase):
                world_size = 1
                def setUp(self):
                    super().setUp()
                    time.sleep(0.2)  # so that 60 tests outlast the start of a server
                def check(self):
                    had = "many.mod0" in sys.modules
                    for i in range(60):
                        importlib.import_module(f"many.mod{i}")
                    if had:
                        (folder / "learnt").touch()

            for i in range(60):
                setattr(TestLearn, f"test_{i}", lambda self: self.check())
            """,
        )
        done = self.harness("-j", "1")
        self.assertEqual((done.code, done.last_line), (0, "60 passed, 0 failed, 0 skipped"))
        self.assertTrue((self.folder / "many" / "learnt").exists())
        self.assert_clean(done)


class TestInterrupted(CommandTestCase):
    def start_sleeping(self, *command):
        """The command, once both ranks of its second test are asleep; and their process ids."""
        self.write("test_sleeping.py", SLEEPING)
        out = Path(tempfile.mkdtemp(dir=self.folder))
        process = self.start(*command, OUT=str(out))
        self.addCleanup(process.kill)
        pids = [int(text) for text in wait_for_texts([out / "rank0", out / "rank1"], process)]
        return process, pids

    def assert_gone(self, pids, within_s):
        processes = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
        _, alive = psutil.wait_procs(processes, timeout=within_s)
        self.assertEqual([p for p in alive if p.status() != psutil.STATUS_ZOMBIE], [])

    def test_interrupt_and_terminate_end_the_ranks_and_report(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            with self.subTest(signal=number.name):
                process, pids = self.start_sleeping(sys.executable, "-m", "harness", "-j", "1")
                process.send_signal(number)
                done = self.finish(process)
                self.assert_gone(pids, within_s=1)
                self.assertEqual((done.code, done.last_line), (1, "1 passed, 1 failed, 0 skipped"))
                self.assertIn("interrupted", done.out)
                self.assertRegex(done.out, r"where it was:\n  rank 0 .*\n  rank 1 ")
                self.assert_clean(done)

    def test_unittest_is_interrupted(self):
        process, pids = self.start_sleeping(sys.executable, "-m", "unittest", "test_sleeping")
        process.send_signal(signal.SIGINT)
        done = self.finish(process)
        self.assert_gone(pids, within_s=1)
        self.assertNotEqual(done.code, 0)
        self.assert_clean(done)

    def test_parent_is_killed(self):
        for method in ("forkserver", "spawn"):
            with self.subTest(method=method):
                process, pids = self.start_sleeping(
                    sys.executable,
                    "-c",
                    f"import os; os.environ['HARNESS_START_METHOD'] = {method!r}; "
                    "from harness.runner.main import main; main(['run', '-k', 'sleeps'])",
                )
                process.kill()
                self.assert_gone(pids, within_s=1)
                done = self.finish(process)
                self.assertEqual(done.left_processes, [])
                if method == "forkserver":  # nobody is left to remove the folder under spawn
                    self.assertEqual(done.left_files, [])


class TestSandcastle(CommandTestCase):
    SUITE = """
        import unittest
        from harness import (
            MultiProcessTestCase, TestCase, skip_but_pass_in_sandcastle,
            skip_but_pass_in_sandcastle_if, skip_if_lt_x_gpu,
        )

        class TestPlain(TestCase):
            @skip_but_pass_in_sandcastle("needs a license")
            def test_marked(self):
                raise AssertionError

            @skip_but_pass_in_sandcastle_if(False, "never")
            def test_not_marked(self):
                pass

        @skip_but_pass_in_sandcastle_if(True, "whole class")
        class TestClass(TestCase):
            def setUp(self):
                raise AssertionError
            def test_it(self):
                raise AssertionError

        class TestRanks(MultiProcessTestCase):
            world_size = 2
            @skip_if_lt_x_gpu(9)
            def test_gpus(self):
                raise AssertionError
            @skip_but_pass_in_sandcastle("needs a license")
            def test_marked(self):
                raise AssertionError
            def test_in_ranks(self):
                self.skipTest("found out late")
    """

    def test_elsewhere_they_are_skips(self):
        self.write("test_castle.py", self.SUITE)
        done = self.harness()
        self.assertEqual((done.code, done.last_line), (0, "1 passed, 0 failed, 5 skipped"))
        for reason in ("2  needs a license", "whole class", "at least 9 GPUs", "found out late"):
            self.assertIn(reason, done.out)

    def test_there_they_pass_and_are_counted(self):
        self.write("test_castle.py", self.SUITE)
        for env in ({"SANDCASTLE": "1"}, {"TW_JOB_USER": "sandcastle"}):
            done = self.harness(**env)
            self.assertEqual((done.code, done.last_line), (0, "6 passed, 0 failed, 0 skipped"))
            self.assertIn("5 passed instead of skipped (Sandcastle)", done.out)
            for reason in ("needs a license", "whole class", "at least 9 GPUs", "found out late"):
                self.assertIn(reason, done.out)

    def test_not_if_it_is_switched_off(self):
        self.write("test_castle.py", self.SUITE)
        done = self.harness(SANDCASTLE="0", TW_JOB_USER="sandcastle")
        self.assertEqual(done.last_line, "1 passed, 0 failed, 5 skipped")


class TestTheSuites(CommandTestCase):
    """What the README promises of this repository's own suites."""

    def test_suite_as_a_script(self):
        done = self.run_command(
            sys.executable,
            "suites/test_nn_functions_gloo.py",
            "-k",
            "cpu_float32_world_size_2",
            cwd=ROOT,
        )
        self.assertEqual((done.code, done.err), (0, ""))
        self.assert_clean(done)

    def test_suite_by_unittest(self):
        done = self.run_command(sys.executable, "-m", "unittest", "suites.test_ddp_gloo", cwd=ROOT)
        self.assertEqual(done.code, 0)
        self.assertRegex(done.err, r"OK \(skipped=\d+\)")

    def test_every_test_of_pytorchs_file_has_a_variant_for_each_device(self):
        done = self.run_command(sys.executable, "run_tests.py", "--list", cwd=ROOT)
        names = done.out.split()
        seeds = [f"test_ddp_gloo.TestDDPSingleProcess.{n}_" for n in ("test", "test_rnn")] + [
            f"test_nn_functions_gloo.TestNNFunctionsGloo.test_{n}_"
            for n in (
                "broadcast",
                "reduce",
                "allreduce",
                "all_gather",
                "all_to_all",
                "all_to_all_single",
                "gather",
                "scatter",
            )
        ]
        for seed in seeds:
            for device in ("cpu", "cuda"):
                self.assertTrue([n for n in names if f"{seed}{device}" in n], f"{seed}{device}")


if __name__ == "__main__":
    unittest.main()
