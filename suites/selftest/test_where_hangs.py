"""Where every rank is, asked of a command whose tests hang."""

from __future__ import annotations

import re
import signal
import sys

from suites.selftest.support import wait_for_texts
from suites.selftest.torchrun_runs import TorchrunTestCase

STUCK = """
    import ctypes, os, signal, threading, unittest
    import torch
    import torch.distributed as dist
    from harness import MultiProcessTestCase
    from harness.common_distributed import MultiThreadedTestCase

    def report(case):
        with open(f"{os.environ['OUT']}/{type(case).__name__}.{case.rank}.up", "w") as file:
            file.write("up")

    class TestProcesses(MultiProcessTestCase):
        world_size = 4

        def test_is_stuck(self):
            self.init_process_group()
            dist.barrier()
            report(self)
            (self.in_a_collective, self.in_a_loop, self.in_native_code, self.stopped)[self.rank]()

        def in_a_collective(self):
            dist.all_reduce(torch.ones(2))

        def in_a_loop(self):
            while True: pass

        def in_native_code(self):
            # PyDLL keeps the GIL. Who locks a mutex twice waits for ever.
            mutex, lock = ctypes.create_string_buffer(64), ctypes.PyDLL(None).pthread_mutex_lock
            lock(mutex)
            lock(mutex)

        def stopped(self):
            os.kill(os.getpid(), signal.SIGSTOP)

    class TestThreads(MultiThreadedTestCase):
        world_size = 2

        def setUp(self):
            super().setUp()
            self._spawn_threads()

        def test_is_stuck(self):
            report(self)
            if self.rank == 0:
                dist.all_reduce(torch.ones(2))
            threading.Event().wait()
"""

ON_PROCESSES = (
    r"  rank 0  waiting in all_reduce \(gloo\) for \d+\.\d s   "
    r"test_stuck.py:\d+ in in_a_collective\n"
    r"  rank 1  running +test_stuck.py:\d+ in in_a_loop   \(body for \d+\.\d s\)\n"
    r"  rank 2  does not answer \(\S+\)\n"
    r"  rank 3  does not answer \(stopped\)\n"
)

ON_THREADS = (
    r"  rank 0  waiting in all_reduce \S* *for \d+\.\d s   test_stuck.py:\d+ in test_is_stuck\n"
    r"  rank 1  running +test_stuck.py:\d+ in test_is_stuck   \(body for \d+\.\d s\)\n"
)

# How many answers may come before the ranks are where they get stuck.
MOST_ANSWERS = 100


class Stuck(TorchrunTestCase):
    """Runs tests that hang."""

    def setUp(self):
        super().setUp()
        self.write("test_stuck.py", STUCK)

    def command(self, *arguments):
        """A command for the file above; no deadlock ends the tests that wait for each other."""
        return self.start(
            *(sys.executable, "-m", "harness", "--max-ranks", "6", *arguments),
            HARNESS_DEADLOCK_AFTER="0",
            OUT=str(self.folder),
        )

    def wait_for(self, process, *names):
        wait_for_texts([self.folder / f"{name}.up" for name in names], process)

    def ask_until(self, process, *patterns):
        """Ask by a signal until an answer has come that matches each pattern."""
        wanted, text = set(patterns), ""
        for _ in range(MOST_ANSWERS):
            process.send_signal(signal.SIGUSR1)
            for _ in patterns:
                answer = self.answer(process)
                wanted = {pattern for pattern in wanted if not re.search(pattern, answer)}
                text += answer
            if not wanted:
                return
        self.fail(f"no {wanted} in:\n{text}")

    def answer(self, process):
        """What the command prints, up to the last line of a table."""
        text = ""
        while not re.search(r"^  (main thread|rank 3|rank 1  .* in test_is_stuck) ", text, re.M):
            line = process.stdout.readline()
            self.assertTrue(line, text)
            text += line
        return text

    def stop_once(self, process, failed, *patterns):
        """Stop the run: the report says where the tests were."""
        process.send_signal(signal.SIGINT)
        done = self.finish(process)
        self.assertEqual((done.code, done.last_line), (1, f"0 passed, {failed}, 0 skipped"))
        for pattern in patterns:
            self.assertRegex(done.out, rf"RunStopped: .*\(Ctrl-C\).*\nwhere it was:\n{pattern}")
        self.assert_clean(done)


class TestHangs(Stuck):
    PROCESSES = tuple(f"TestProcesses.{rank}" for rank in range(4))
    THREADS = tuple(f"TestThreads.{rank}" for rank in range(2))

    def test_one_test(self):
        for jobs in ("0", "1"):
            with self.subTest(jobs):
                process = self.command("-j", jobs, "-k", "Processes")
                self.wait_for(process, *self.PROCESSES)
                self.ask_until(process, ON_PROCESSES)
                self.stop_once(process, "1 failed", ON_PROCESSES)
                for file in self.folder.glob("*.up"):
                    file.unlink()

    def test_two_tests(self):
        process = self.command("-j", "2")
        self.wait_for(process, *self.PROCESSES, *self.THREADS)
        self.ask_until(process, ON_PROCESSES, ON_THREADS)
        self.stop_once(process, "2 failed", ON_PROCESSES, ON_THREADS)

    def test_a_test_that_takes_too_long(self):
        """Slow: it needs time to get stuck in."""
        process = self.command("-j", "2", "--test-timeout", "10")
        done = self.finish(process)
        self.assertEqual((done.code, done.last_line), (1, "0 passed, 2 failed, 0 skipped"))
        self.assertRegex(done.out, f"where it was:\\n{ON_PROCESSES}")
        self.assertRegex(done.out, f"where it was:\\n{ON_THREADS}")
        self.assert_clean(done)

    def test_under_torchrun(self):
        stuck = {"HARNESS_DEADLOCK_AFTER": "0", "OUT": str(self.folder)}
        world = self.start_world(4, "-k", "Processes", **stuck)
        (_, first), *_ = world
        self.wait_for(first, *self.PROCESSES)
        self.ask_until(first, ON_PROCESSES)
        first.send_signal(signal.SIGINT)
        first.send_signal(signal.SIGINT)
        self.finish_world(world)
