"""What stops a run before its end: signals, timeouts, failures; and a signal that does not."""

from __future__ import annotations

import os
import signal
import sys
import time

from suites.selftest.support import CommandTestCase, wait_for_texts


class TestStopping(CommandTestCase):
    SLEEPING = """
        import os, signal, threading, unittest
        class TestSleep(unittest.TestCase):
            def test_a(self): pass
            def test_b(self):
                print("up", file=open(os.environ["OUT"], "w"), flush=True)
                threading.Event().wait(600)
            def test_c(self): threading.Event().wait(600)
            def test_d(self): pass
    """

    def start_sleeping(self, *arguments):
        self.write("test_sleeping.py", self.SLEEPING)
        out = self.folder / "asleep"
        out.unlink(missing_ok=True)
        process = self.start(sys.executable, "-m", "harness", *arguments, OUT=str(out))
        self.addCleanup(process.kill)
        wait_for_texts([out], process)
        return process

    def test_once_reports(self):
        for jobs in ("0", "1"):
            for number, name in ((signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")):
                with self.subTest(jobs=jobs, name=name):
                    process = self.start_sleeping("-j", jobs, *self.REPORTS, *self.RETRIES[jobs])
                    process.send_signal(number)
                    done = self.finish(process)
                    self.assertIn("interrupted", done.out)
                    self.check_stopped(done, name)

    REPORTS = ("--junit", "report.xml", "--html", "report.html")
    # A test that is ended with the run is not tried again.
    RETRIES = {"0": (), "1": ("--retries", "2")}

    def check_stopped(self, done, name):
        """The test that ran has failed, for this reason, and says where it was."""
        self.assertEqual((done.code, done.last_line), (1, "1 passed, 1 failed, 0 skipped"))
        self.assertRegex(
            done.out,
            r"ERROR: test_sleeping.TestSleep.test_b\n-+\n"
            rf"RunStopped: the run was stopped \({name}\) while this test ran, after \d+\.\d s\n"
            r"where it was:\n  main thread  running   test_sleeping.py:\d+ in test_b\n",
        )
        self.assertNotIn("RETRY", done.out)
        self.assertIn("2 not run", done.out)
        for name in ("report.xml", "report.html"):
            self.assertIn("RunStopped: the run was stopped", (self.folder / name).read_text())
        self.assert_clean(done)

    def test_twice_stops_at_once(self):
        self.write(
            "test_stubborn.py",
            """
            import os, signal, unittest
            class TestStubborn(unittest.TestCase):
                def test(self):
                    signal.signal(signal.SIGTERM, signal.SIG_IGN)
                    print("up", file=open(os.environ["OUT"], "w"), flush=True)
                    while True: signal.pause()
        """,
        )
        out = self.folder / "up"
        process = self.start(sys.executable, "-m", "harness", "-j", "2", OUT=str(out))
        self.addCleanup(process.kill)
        wait_for_texts([out], process)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        done = self.finish(process)
        self.assertEqual((done.code, done.last_line), (1, "0 passed, 1 failed, 0 skipped"))
        self.assert_clean(done)

    def test_test_timeout(self):
        self.write("test_sleeping.py", self.SLEEPING)
        done = self.harness("-j", "2", "--test-timeout", "0.5", OUT=os.devnull)
        self.assertEqual((done.code, done.last_line), (1, "2 passed, 2 failed, 0 skipped"))
        self.assertIn("TestTimedOut: the test timed out after 0.5 s (--test-timeout)", done.out)
        self.assertIn("in test_b", done.out)
        self.assert_clean(done)

    def test_run_timeout(self):
        self.write("test_sleeping.py", self.SLEEPING)
        for jobs in ("0", "1"):
            with self.subTest(jobs):
                done = self.harness(
                    *("-j", jobs, "--run-timeout", "4", *self.REPORTS, *self.RETRIES[jobs]),
                    OUT=os.devnull,
                )
                self.assertIn("stopped after 4 s (--run-timeout)", done.out)
                self.check_stopped(done, "--run-timeout")

    def test_maxfail(self):
        self.write(
            "test_fails.py",
            """
            import unittest
            class TestFails(unittest.TestCase): pass
            for i in range(9):
                setattr(TestFails, f"test_{i}", lambda self: self.fail("so it is"))
        """,
        )
        done = self.harness("-j", "1", "--maxfail", "3")
        self.assertEqual((done.code, done.last_line), (1, "0 passed, 3 failed, 0 skipped"))
        self.assertIn("6 not run", done.out)
        done = self.harness("-j", "0", "--maxfail", "2")
        self.assertEqual((done.code, done.last_line), (1, "0 passed, 2 failed, 0 skipped"))

    def test_where_it_is(self):
        for jobs in ("0", "2"):
            process = self.start_sleeping("-j", jobs)
            process.send_signal(signal.SIGUSR1)
            text = ""
            while "test_b" not in text or "test_sleeping.py" not in text:
                line = process.stdout.readline()
                self.assertTrue(line, text)
                text += line
            process.send_signal(signal.SIGINT)
            process.send_signal(signal.SIGINT)
            self.finish(process)


class TestSuspended(CommandTestCase):
    THREADS = """
        from harness import MultiThreadedTestCase, timeout

        class TestThreads(MultiThreadedTestCase):
            world_size = 2

            def setUp(self):
                super().setUp()
                self._spawn_threads()

            @timeout(8)
            def test(self):
                if self.rank == 0:
                    with open("up", "w") as pipe:
                        pipe.write("up")
                    with open("go") as pipe:
                        pipe.read()
    """

    def test_the_time_for_which_a_process_of_thread_ranks_was_stopped_does_not_count(self):
        self.write("test_threads.py", self.THREADS)
        for name in ("up", "go"):
            os.mkfifo(self.folder / name)
        process = self.start(sys.executable, "-m", "unittest", "test_threads")
        (self.folder / "up").read_text()
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(10)  # longer than the limit
        os.kill(process.pid, signal.SIGCONT)
        (self.folder / "go").write_text("go")
        done = self.finish(process)
        self.assertEqual(done.code, 0, done.err)
