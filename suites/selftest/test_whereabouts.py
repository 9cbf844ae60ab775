"""Where every rank is, asked while a test runs: the answer, and that the test is none the worse."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import signal
import sys
import threading
import time
import unittest
from unittest import mock

from harness.diagnosis.position import Position, position_of_process, position_of_rank, table
from harness.model.clock import Deadline, now
from harness.model.evidence import Collective, Snapshot, ThreadStack, Waiting
from harness.model.outcome import Place
from harness.model.timeline import BODY, TEAR_DOWN
from harness.ranks.pool import pool
from harness.ranks.watch import where
from suites.samples import faults, reused, slow, timed
from suites.selftest.given_runs import GivenWorldTestCase
from suites.selftest.support import COMMAND_LIMIT_S, InProcess, run_case, wait_for_texts

OFTEN_S = 0.01

HERE = Place("/x/test_model.py", 41, "test_sync")
TORCH = Place("<torch>", 1, "all_reduce")


def snapshot(waiting=None, *calls, frames=(TORCH, HERE)):
    return Snapshot((ThreadStack("MainThread", frames),), calls, waiting=waiting)


class TestLines(unittest.TestCase):
    def line(self, phase, taken):
        return table([position_of_rank(0, phase, now(), taken)])

    def test_in_a_collective(self):
        call = Collective("0", 1, "all_reduce", "gloo", (), (), True, 3.21, 330.0)
        self.assertEqual(
            self.line(BODY, snapshot(Waiting("collective", "all_reduce"), call)),
            "  rank 0  waits in all_reduce (gloo) for 3.2 s   /x/test_model.py:41 in test_sync",
        )

    def test_in_recv(self):
        self.assertEqual(
            self.line(BODY, snapshot(Waiting("recv", "recv", (1,)))),
            "  rank 0  waits in recv from rank 1   /x/test_model.py:41 in test_sync"
            "   (body for 0.0 s)",
        )

    def test_in_none(self):
        self.assertIn("rank 0  runs   /x/test_model.py:41", self.line(BODY, snapshot()))

    def test_in_another_phase(self):
        self.assertIn("rank 0  tears down   /x", self.line(TEAR_DOWN, snapshot()))
        taken = snapshot(Waiting("meeting", "assertRanksAgree"))
        self.assertIn("tears down, waits in assertRanksAgree", self.line(TEAR_DOWN, taken))

    def test_columns(self):
        rows = [Position("rank 9", "runs", "a.py:1 in f"), Position("rank 10", "waits", "b", "(c)")]
        self.assertEqual(
            table([*rows, Position("rank 11", "does not answer")]).split("\n"),
            [
                "  rank 9   runs    a.py:1 in f",
                "  rank 10  waits   b   (c)",
                "  rank 11  does not answer",
            ],
        )

    def test_a_process_in_no_test(self):
        self.assertEqual(position_of_process(Snapshot()).doing, "is in no test")
        runner = (Place("/x/select.py", 1, "poll"), Place(__file__, 1, "<module>"))
        taken = snapshot(frames=runner)
        self.assertEqual(position_of_process(taken), Position("main thread", "is in no test"))

    def test_a_process_between_a_test_and_its_ranks(self):
        case = Place(unittest.case.__file__, 1, "run")
        self.assertEqual(
            position_of_process(snapshot(frames=(TORCH, case))).doing,
            "is setting up or tearing down a test",
        )
        taken = snapshot(frames=(HERE, case))
        self.assertEqual(position_of_process(taken).where, "/x/test_model.py:41 in test_sync")


class Asking(InProcess):
    """Runs samples that are asked where they are meanwhile."""

    def setUp(self):
        super().setUp()
        self.enter(mock.patch.object(where, "_status_thread", None))
        self.addCleanup(where.disable)
        self.addCleanup(pool().close)
        self.told = queue.SimpleQueue()
        where.enable(self.told.put)
        self.go = os.path.join(self.out, "go")
        os.mkfifo(self.go)
        # For reading too, so that it does not matter whether somebody reads at the other end.
        self.go_fd = os.open(self.go, os.O_RDWR)
        self.addCleanup(os.close, self.go_fd)

    def let_go(self):
        """Have those go on that wait until told."""
        timed.GO.set()
        os.write(self.go_fd, b"go\n")

    def ask_until(self, *wanted, ask=where.ask):
        """Ask until an answer has all these words; returns the last one, and how long it took."""
        deadline, text, took_s = Deadline.after(COMMAND_LIMIT_S), "", 0.0
        while not deadline.expired:
            began_s = now()
            ask()
            text = self.told.get(timeout=COMMAND_LIMIT_S)
            took_s = now() - began_s
            if all(word in text for word in wanted):
                break
        return text, took_s

    def asked(self, cls, method, *wanted, size=2, status="passed", **env):
        """Run a sample, and ask until the answer has the words; it is let go then."""
        answers = []
        timed.GO.clear()

        def asker():
            try:
                answers.append(self.ask_until(*wanted))
            finally:
                self.let_go()

        thread = threading.Thread(target=asker)
        with (
            mock.patch.dict(os.environ, {"SAMPLE_GO": self.go, **env}),
            mock.patch.object(cls, "world_size", size, create=True),
        ):
            thread.start()
            result = run_case(cls, method)
            thread.join()
        self.assertEqual(result.status, status, result.text)
        ((text, took_s),) = answers
        for word in wanted:
            self.assertIn(word, text)
        return text, took_s

    def lines(self, text):
        return [line.split(maxsplit=2)[2] for line in text.split("\n")]


class TestProcesses(Asking):
    def test_in_a_collective(self):
        for size in (2, 4):
            with self.subTest(size):
                text, _ = self.asked(
                    timed.Waiting, "test_in_a_collective", "all_reduce", "runs", size=size
                )
                *waiting, running = self.lines(text)
                self.assertEqual(len(waiting), size - 1)
                self.assertRegex(running, r"^runs +\S*timed.py:\d+ in wait_until_told   \(body for")
                # Ranks may still be on their way into it.
                self.assertRegex(
                    "\n".join(waiting),
                    r"waits in all_reduce \(gloo\) for \d+\.\d s   \S*timed.py:\d+ in test_in_a_c",
                )

    def test_alone(self):
        text, _ = self.asked(timed.Waiting, "test_in_a_collective", "wait_until_told", size=1)
        self.assertEqual(len(self.lines(text)), 1)

    def test_in_recv(self):
        self.asked(timed.Waiting, "test_in_recv", "waits in recv from rank 1", "in test_in_recv")

    def test_in_a_rendezvous(self):
        words = ("waits in init_process_group", "in test_in_a_rendezvous", "runs")
        self.asked(timed.Waiting, "test_in_a_rendezvous", *words)

    def test_in_a_meeting(self):
        words = ("waits in assertRanksAgree", "in test_in_a_meeting", "runs")
        self.asked(timed.Waiting, "test_in_a_meeting", *words)

    def test_in_set_up(self):
        words = ("rank 1  sets up", "in wait_until_told", "rank 0  passed")
        self.asked(timed.Waiting, "test_in_set_up", *words)

    def test_in_tear_down(self):
        words = ("rank 1  tears down", "in wait_until_told", "rank 0  passed")
        self.asked(timed.Waiting, "test_in_tear_down", *words)

    def test_ranks_that_stay(self):
        for kind in ("group", "none"):
            for _ in range(2):
                with self.subTest(kind):
                    self.asked(
                        *(timed.Waiting, "test_in_a_collective", "waits in all_reduce", "runs"),
                        HARNESS_ISOLATION=kind,
                    )

    def test_ranks_that_are_spawned(self):
        """Slow: fresh interpreters import torch."""
        env = {"HARNESS_START_METHOD": "spawn"}
        words = ("rank 0  starts", "(start for")
        self.asked(timed.Waiting, "test_in_a_meeting", *words, **env)
        words = ("waits in assertRanksAgree", "runs")
        self.asked(timed.Waiting, "test_in_a_meeting", *words, **env)

    def test_a_rank_that_cannot_answer(self):
        """Slow: it holds the GIL until its test times out."""
        self.asked(
            faults.Faults, "test_gil", "rank 1  does not answer", "rank 0  passed", status="error"
        )

    def test_a_rank_that_is_stopped(self):
        """Slow: it is waited for until the timeout."""
        words = ("rank 1  does not answer (stopped)",)
        self.asked(faults.Faults, "test_sigstop", *words, status="error")


class TestThreads(Asking):
    def test_in_a_collective(self):
        for size in (2, 4):
            with self.subTest(size):
                text, _ = self.asked(
                    timed.OnThreads, "test_waits", "waits in all_reduce", "runs", size=size
                )
                *_, last = self.lines(text)
                self.assertRegex(last, r"^runs +\S*timed.py:\d+ in test_waits   \(body for")

    def test_alone(self):
        self.asked(timed.OnThreads, "test_waits", "rank 0  runs", "in test_waits", size=1)


class TestWithoutRanks(Asking):
    def test_a_test_that_waits_in_native_code(self):
        self.asked(timed.Alone, "test_waits", "  main thread  runs   ", "in test_waits")

    def test_by_a_signal(self):
        before = signal.signal(signal.SIGUSR1, lambda *_: where.ask())
        self.addCleanup(signal.signal, signal.SIGUSR1, before)
        main = threading.main_thread().ident

        def ask(*wanted):
            return Asking.ask_until(
                self, *wanted, ask=lambda: signal.pthread_kill(main, signal.SIGUSR1)
            )

        with mock.patch.object(self, "ask_until", ask):
            self.asked(timed.Alone, "test_waits", "main thread  runs", "in test_waits")
            self.asked(timed.Waiting, "test_in_recv", "waits in recv from rank 1")

    def test_after_a_test(self):
        self.asked(timed.Waiting, "test_in_set_up", "sets up")
        text, _ = self.ask_until("main thread")
        self.assertNotIn("rank", text)

    def test_in_a_fork(self):
        """Whether the questions of the parent are answered or not, a fork has none to ask."""
        self.ask_until("main thread")
        pid = os.fork()
        if pid == 0:
            where.ask()
            is_forgotten = where.wakeup() is None and not where._sources
            os._exit(0 if is_forgotten and threading.active_count() == 1 else 1)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 0)
        self.ask_until("main thread")

    def test_nobody_attends(self):
        where.disable()
        where.ask()
        self.assertIsNone(where.wakeup())
        self.assertTrue(self.told.empty())

    def test_an_answer_that_cannot_be_delivered(self):
        def refuse(text):
            where.enable(self.told.put)
            raise ValueError(text)

        where.enable(refuse)
        with contextlib.redirect_stderr(None), mock.patch("traceback.print_exc") as printed:
            where.ask()
            # The next question is answered by the same thread, after that.
            self.ask_until("main thread")
            printed.assert_called_once()


class TestHarmless(Asking):
    """A question every few milliseconds changes no verdict."""

    def under_questions(self, cls, method, **env):
        over = threading.Event()

        def pester():
            where.ask()
            while not over.wait(OFTEN_S):
                where.ask()

        thread = threading.Thread(target=pester)
        thread.start()
        try:
            with mock.patch.dict(os.environ, env):
                return run_case(cls, method)
        finally:
            over.set()
            thread.join()

    def check(self, cls, method, status, *words, **env):
        result = self.under_questions(cls, method, **env)
        self.assertEqual(result.status, status, result.text)
        for word in words:
            self.assertIn(word, result.text)
        self.assertTrue(self.told.get(timeout=COMMAND_LIMIT_S))
        return result

    def test_passes(self):
        for kind in ("process", "group", "none"):
            with self.subTest(kind):
                for _ in range(3):
                    self.check(timed.Timed, "test_collectives", "passed", HARNESS_ISOLATION=kind)

    def test_threads(self):
        self.check(timed.OnThreads, "test_collectives", "passed")
        quick = {"HARNESS_DEADLOCK_AFTER": "0.3"}
        self.check(timed.OnThreads, "test_deadlock", "error", "RanksDeadlocked", **quick)

    def test_a_long_wait_is_no_deadlock(self):
        """Slow: a rank is waited for, longer than a deadlock takes to be sure of."""
        quick = {"HARNESS_DEADLOCK_AFTER": "0.3"}
        for method in ("test_sleep", "test_point_to_point", "test_rendezvous"):
            with self.subTest(method):
                self.check(slow.SlowButSound, method, "passed", **quick)

    def test_a_deadlock_is_one(self):
        for seconds in ("0.3", "1"):
            with self.subTest(seconds):
                began_s = time.monotonic()
                words = (
                    "RanksDeadlocked",
                    "diverge at collective 2",
                    "waiting in broadcast (gloo)",
                )
                env = {"HARNESS_DEADLOCK_AFTER": seconds}
                self.check(timed.Timed, "test_desync", "error", *words, **env)
                self.assertLess(time.monotonic() - began_s, COMMAND_LIMIT_S)

    def test_a_timeout(self):
        self.check(timed.Timed, "test_hangs", "error", "had not finished after 1 s")

    def test_a_rank_that_is_killed(self):
        self.check(timed.Timed, "test_killed", "error", "killed by SIGKILL")

    def test_a_skip(self):
        self.check(timed.Timed, "test_skips", "skipped")
        self.check(reused.Sound, "test_skips", "skipped")

    def test_a_failure(self):
        self.check(timed.Timed, "test_fails", "failed", "the last rank is not pleased")


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
    r"  rank 0  waits in all_reduce \(gloo\) for \d+\.\d s   test_stuck.py:\d+ in in_a_collective\n"
    r"  rank 1  runs +test_stuck.py:\d+ in in_a_loop   \(body for \d+\.\d s\)\n"
    r"  rank 2  does not answer \(\S+\)\n"
    r"  rank 3  does not answer \(stopped\)\n"
)
ON_THREADS = (
    r"  rank 0  waits in all_reduce \S* *for \d+\.\d s   test_stuck.py:\d+ in test_is_stuck\n"
    r"  rank 1  runs +test_stuck.py:\d+ in test_is_stuck   \(body for \d+\.\d s\)\n"
)
# How many answers may come before the ranks are where they get stuck.
MOST_ANSWERS = 100


class Stuck(GivenWorldTestCase):
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


if __name__ == "__main__":
    unittest.main()
