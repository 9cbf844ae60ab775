"""Tests that harm the process they run in: verdicts, and all other tests, at any number of workers.

Each test of a sample says what must become of it: `passes`, or `fails` with a text of its report.
"""

from __future__ import annotations

import json
import re
import textwrap
import unittest

from suites.selftest.support import CommandTestCase

HEAD = """
    import ctypes, multiprocessing, os, signal, subprocess, sys, threading, time, unittest

    def wait_for(pid):
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def fork(in_child):
        pid = os.fork()
        if pid == 0:
            in_child()
        return pid

    def raise_error(): raise ValueError("in the child")
"""

FORKS = """
    class TestForks(unittest.TestCase):
        def test_a_exits(self):
            pid = fork(lambda: sys.exit(3))
            self.assertEqual(wait_for(pid), 1)  # as under unittest, where the child's run fails
        def test_b_raises(self):
            pid = fork(raise_error)
            self.assertEqual(wait_for(pid), 1)
        def test_c_returns(self):
            pid = fork(lambda: None)
            if pid:
                self.assertEqual(wait_for(pid), 0)
        def test_d_fails(self):
            pid = os.fork()
            self.assertTrue(pid, "in the child")
            self.assertEqual(wait_for(pid), 1)
        def test_e_os_exit(self):
            self.assertEqual(wait_for(fork(lambda: os._exit(7))), 7)
        def test_f_is_interrupted(self):
            pid = fork(lambda: os.kill(os.getpid(), signal.SIGINT))
            self.assertNotEqual(wait_for(pid), 0)
        def test_g_skips(self):
            pid = fork(lambda: self.skipTest("in the child"))
            self.assertEqual(wait_for(pid), 0)
        def test_h_multiprocessing(self):
            process = multiprocessing.get_context("fork").Process(target=raise_error)
            process.start()
            process.join()
            self.assertEqual(process.exitcode, 1)
        def test_i_terminated(self):
            context = multiprocessing.get_context("fork")
            process = context.Process(target=time.sleep, args=(600,))
            process.start()
            process.terminate()
            process.join()
            self.assertEqual(process.exitcode, -signal.SIGTERM)
        def test_j_runs_another_test(self):
            def run():
                unittest.TextTestRunner(open(os.devnull, "w")).run(TestForks("test_k_fine"))
            pid = fork(run)
            if pid:
                self.assertEqual(wait_for(pid), 0)
        def test_k_fine(self): pass
        def test_l_daemon(self):
            read, write = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.setsid()
                if os.fork() == 0:
                    os.read(read, 1)  # until the test, and the process that ran it, have ended
                    os._exit(0)
                return
            self.assertEqual(wait_for(pid), 0)
            os.write(write, b"!")
        def test_m_in_cleanups(self):
            self.addCleanup(lambda: wait_for(fork(raise_error)))
        def test_n_fails_in_the_parent(self):
            pid = fork(lambda: None)
            if pid:
                wait_for(pid)
                self.fail("in the parent")

    class TestFixture(unittest.TestCase):
        @classmethod
        def setUpClass(cls):
            cls.pid = os.fork()
            if cls.pid:
                cls.code = wait_for(cls.pid)
        def test_a(self): pass
        def test_b(self): self.assertEqual(self.code, 0)
        @classmethod
        def tearDownClass(cls):
            if os.fork() == 0:
                raise_error()
            os.wait()

    class TestLast(unittest.TestCase):
        def test(self): pass
"""

ALL_FORKS = 17

# By test: a text of its report, which must be there; "" for one that passes.
CLOSES = """
    def numbers(kind):
        found = []
        for name in os.listdir("/proc/self/fd"):
            try:
                if os.readlink(f"/proc/self/fd/{name}").startswith(kind):
                    found.append(int(name))
            except OSError:
                pass
        return [fd for fd in found if fd > 2]

    class TestCloses(unittest.TestCase):
        def test_a_range(self): os.closerange(3, 256)
        def test_b_fine(self): pass
        def test_c_all_above(self): os.closerange(3, 65536)
        def test_d_fine(self): pass
        def test_e_each(self):
            for fd in numbers(""):
                try: os.close(fd)
                except OSError: pass
        def test_f_over(self):
            null = os.open(os.devnull, os.O_RDWR)
            for fd in numbers(""):
                if fd != null: os.dup2(null, fd)
        def test_g_and_fails(self):
            os.closerange(3, 256)
            self.fail("of its own")
        def test_h_fine(self): pass

    class TestFixture(unittest.TestCase):
        @classmethod
        def setUpClass(cls): os.closerange(3, 256)
        def test_a(self): pass

    class TestLast(unittest.TestCase):
        def test(self): pass
"""

STREAMS = """
    class TestStreams(unittest.TestCase):
        def test_a_none(self): sys.stdout = None
        def test_b_fine(self): pass
        def test_c_none(self): sys.stderr = None
        def test_d_none(self): sys.__stdout__ = sys.__stderr__ = None
        def test_e_closes(self):
            for name in ("stdout", "stderr"):
                setattr(sys, name, open(os.devnull, "w"))
                getattr(sys, name).close()
        def test_f_closes_1(self): os.close(1)
        def test_g_closes_2(self): os.close(2)
        def test_h_over(self):
            for fd in (0, 1, 2): os.dup2(os.open(os.devnull, os.O_RDWR), fd)
        def test_i_fails(self): self.fail("of its own")
        def test_j_odd(self): sys.stdout = sys.stderr = object()
        def test_k_fine(self): pass
"""

SIGNALS = """
    class TestSignals(unittest.TestCase):
        def test_a_terminates_itself(self): os.kill(os.getpid(), signal.SIGTERM)
        def test_b_fine(self): pass
        def test_c_raises_signal(self): signal.raise_signal(signal.SIGTERM)
        def test_d_catches_all(self):
            try: os.kill(os.getpid(), signal.SIGTERM)
            except Exception: pass
        def test_e_interrupts_itself(self): os.kill(os.getpid(), signal.SIGINT)
        def test_f_expects_it(self):
            with self.assertRaises(KeyboardInterrupt):
                os.kill(
                    os.getpid(), signal.SIGINT
                )
        def test_g_raises_it(self): raise KeyboardInterrupt
        def test_h_handles_it(self):
            seen = []
            before = signal.signal(signal.SIGTERM, lambda *args: seen.append(args))
            os.kill(os.getpid(), signal.SIGTERM)
            signal.signal(signal.SIGTERM, before)
            self.assertEqual(len(seen), 1)
        def test_i_ignores_children(self): signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        def test_j_fine(self): self.assertEqual(subprocess.run(["true"]).returncode, 0)

    class TestInterruptedFixture(unittest.TestCase):
        @classmethod
        def setUpClass(cls): raise KeyboardInterrupt
        def test_a(self): pass

    class TestTerminatedFixture(unittest.TestCase):
        @classmethod
        def setUpClass(cls): os.kill(os.getpid(), signal.SIGTERM)
        def test_a(self): pass

    class TestLast(unittest.TestCase):
        def test(self): pass
"""

RANKS = """
    from harness import MultiProcessTestCase

    class TestRanks(MultiProcessTestCase):
        world_size = 2
        def setUp(self):
            super().setUp()
            {harm}
            self._spawn_processes()
        def test_a(self): pass
        def test_b(self): self.assertEqual(self.rank, 0)

    class TestLast(MultiProcessTestCase):
        world_size = 2
        def setUp(self):
            super().setUp()
            self._spawn_processes()
        def test(self): self.assertIn(self.rank, (0, 1))
"""

JOBS = ("0", "1", "4")
CLOSED = r"DescriptorClosed: the test closed file descriptors? \d+"


class TestHostile(CommandTestCase):
    def verdicts(self, source, jobs, **env):
        """Run the sample; returns the failures by test, and what it printed."""
        self.write("test_hostile.py", textwrap.dedent(HEAD) + textwrap.dedent(source))
        report = self.sandbox.base / "records.json"
        report.unlink(missing_ok=True)
        options = ("--timeout", "60", "--run-timeout", "200", "--no-history")
        done = self.harness("-j", jobs, *options, "--records", str(report), **env)
        # A process that is ended while `tempfile` tries out a folder leaves the file that it tries.
        files = [name for name in done.left_files if not re.fullmatch("[a-z0-9_]{8}", name)]
        self.assertEqual((done.left_processes, files), ([], []))
        self.assertNotIn("Exception ignored", done.err)
        self.assertNotRegex(done.err, r"/harness/(runner|ranks)/")
        self.assertRegex(done.last_line, r"^\d+ passed, \d+ failed, \d+ skipped$")
        self.assertEqual(done.out.count(" passed, "), 1, "one summary")
        records = json.loads(report.read_text())["records"]
        texts = {
            record["test_id"].replace("test_hostile.", ""): "\n".join(
                trouble["text"] for trouble in record.get("troubles", ())
            )
            for record in records
        }
        self.assertEqual(len(texts), len(records), "a test has been reported twice")
        failed = {name: text for name, text in texts.items() if text}
        self.assertEqual(done.code, 1 if failed else 0)
        return texts, failed, done

    def check(self, failed, expected):
        self.assertEqual(sorted(failed), sorted(expected))
        for name, pattern in expected.items():
            self.assertRegex(failed[name], pattern, name)

    def test_forks(self):
        for jobs in JOBS:
            with self.subTest(jobs=jobs):
                texts, failed, done = self.verdicts(FORKS, jobs)
                expected = {
                    "TestForks.test_n_fails_in_the_parent": "AssertionError: in the parent",
                }
                self.check(failed, expected)
                self.assertEqual(len(texts), ALL_FORKS, texts)
                self.assertNotIn("in the child", done.out)

    def test_a_module_that_forks(self):
        for jobs in JOBS:
            with self.subTest(jobs=jobs):
                source = """
                    PID = os.fork()
                    if PID:
                        wait_for(PID)
                    class TestOne(unittest.TestCase):
                        def test(self): self.assertTrue(PID)
                """
                texts, failed, _ = self.verdicts(source, jobs)
                self.assertEqual((len(texts), failed), (1, {}))

    def test_closed_descriptors(self):
        for jobs in JOBS:
            with self.subTest(jobs=jobs):
                texts, failed, _ = self.verdicts(CLOSES, jobs)
                closing = ("a_range", "c_all_above", "e_each", "f_over", "g_and_fails")
                expected = {f"TestCloses.test_{name}": CLOSED for name in closing}
                self.check(failed, {**expected, "TestFixture.test_a": CLOSED})
                if jobs == "0":  # a worker may notice before the test fails
                    self.assertIn("of its own", failed["TestCloses.test_g_and_fails"])
                self.assertEqual(len(texts), 10)

    def test_a_closed_channel_ends_the_test_at_once(self):
        source = """
            class TestWaits(unittest.TestCase):
                def test_a(self):
                    os.closerange(3, 256)
                    threading.Event().wait()
                def test_b(self): pass
        """
        texts, failed, _ = self.verdicts(source, "1")
        self.check(failed, {"TestWaits.test_a": CLOSED + ".*the worker's channel to the runner"})
        self.assertEqual(len(texts), 2)

    def test_a_module_that_closes_descriptors(self):
        self.write("test_hostile.py", "import os\nos.closerange(3, 256)\n")
        done = self.harness("-j", "1", "--no-history", HARNESS_START_METHOD="spawn")
        self.assertEqual(done.code, 2)
        self.assertRegex(done.err, CLOSED)
        self.assert_clean(done)

    def test_streams(self):
        for jobs in JOBS:
            with self.subTest(jobs=jobs):
                texts, failed, _ = self.verdicts(STREAMS, jobs)
                self.check(failed, {"TestStreams.test_i_fails": "AssertionError: of its own"})
                self.assertEqual(len(texts), 11)

    def test_signals(self):
        own = "RuntimeError: the test sent SIGTERM to its own process"
        for jobs in JOBS:
            with self.subTest(jobs=jobs):
                texts, failed, _ = self.verdicts(SIGNALS, jobs)
                expected = {
                    "TestSignals.test_a_terminates_itself": own,
                    "TestSignals.test_c_raises_signal": own,
                    "TestSignals.test_d_catches_all": "the test sent SIGTERM to its own process",
                    "TestSignals.test_e_interrupts_itself": "KeyboardInterrupt",
                    "TestSignals.test_g_raises_it": "KeyboardInterrupt",
                    "setUpClass (TestInterruptedFixture)": "KeyboardInterrupt",
                    "setUpClass (TestTerminatedFixture)": own,
                }
                self.check(failed, expected)
                self.assertEqual(len(texts), 13)

    def test_sigterm_that_comes_from_elsewhere(self):
        source = """
            class TestKilled(unittest.TestCase):
                def test_a(self):
                    subprocess.run(["sh", "-c", f"kill {os.getpid()}"])
                    threading.Event().wait(600)
                def test_b(self): pass
        """
        texts, failed, _ = self.verdicts(source, "1")
        self.check(
            failed, {"TestKilled.test_a": "killed by SIGTERM; the runner did not send the signal"}
        )
        self.assertEqual(len(texts), 2)

    def test_ranks_of_a_parent(self):
        """A test may do it before it has ranks."""
        for harm, closes in (
            (
                "signal.signal(signal.SIGCHLD, signal.SIG_IGN); sys.stdout = sys.stderr = None",
                False,
            ),
            ("os.closerange(3, 256)", True),
        ):
            for jobs in JOBS:
                with self.subTest(harm=harm, jobs=jobs):
                    source = RANKS.format(harm=harm)
                    texts, failed, _ = self.verdicts(source, jobs)
                    expected = dict.fromkeys(("TestRanks.test_b",), "RanksFailedError")
                    if closes:
                        expected = {f"TestRanks.test_{name}": CLOSED for name in "ab"}
                    self.check(failed, expected)
                    self.assertEqual(len(texts), 3)

    def test_spawned_ranks_of_a_parent_that_ignores_its_children(self):
        source = RANKS.format(harm="signal.signal(signal.SIGCHLD, signal.SIG_IGN)")
        texts, failed, _ = self.verdicts(source, "1", HARNESS_START_METHOD="spawn")
        self.check(failed, {"TestRanks.test_b": "RanksFailedError"})
        self.assertEqual(len(texts), 3)


if __name__ == "__main__":
    unittest.main()
