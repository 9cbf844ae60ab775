"""Where every rank is: the answer, for ranks of each kind and for tests without ranks."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import unittest
from unittest import mock

from harness.diagnosis.position import Position, position_of_process, position_of_rank, table
from harness.model.clock import now
from harness.model.evidence import Collective, Snapshot, ThreadStack, Waiting
from harness.model.outcome import Place
from harness.model.phase import Phase
from harness.ranks.watch import where
from suites.samples import faults, timed
from suites.selftest.where_runs import Asking

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
            self.line(Phase.BODY, snapshot(Waiting("collective", "all_reduce"), call)),
            "  rank 0  waiting in all_reduce (gloo) for 3.2 s   /x/test_model.py:41 in test_sync",
        )

    def test_in_recv(self):
        self.assertEqual(
            self.line(Phase.BODY, snapshot(Waiting("recv", "recv", (1,)))),
            "  rank 0  waiting in recv from rank 1   /x/test_model.py:41 in test_sync"
            "   (body for 0.0 s)",
        )

    def test_in_none(self):
        self.assertIn("rank 0  running   /x/test_model.py:41", self.line(Phase.BODY, snapshot()))

    def test_in_another_phase(self):
        self.assertIn("rank 0  tearing down   /x", self.line(Phase.TEAR_DOWN, snapshot()))
        taken = snapshot(Waiting("meeting", "assertRanksAgree"))
        self.assertIn(
            "tearing down, waiting in assertRanksAgree", self.line(Phase.TEAR_DOWN, taken)
        )

    def test_columns(self):
        rows = [
            Position("rank 9", "running", "a.py:1 in f"),
            Position("rank 10", "waits", "b", "(c)"),
        ]
        self.assertEqual(
            table([*rows, Position("rank 11", "does not answer")]).split("\n"),
            [
                "  rank 9   running   a.py:1 in f",
                "  rank 10  waits     b   (c)",
                "  rank 11  does not answer",
            ],
        )

    def test_a_process_in_no_test(self):
        self.assertEqual(position_of_process(Snapshot()).doing, "between tests")
        runner = (Place("/x/select.py", 1, "poll"), Place(__file__, 1, "<module>"))
        taken = snapshot(frames=runner)
        self.assertEqual(position_of_process(taken), Position("main thread", "between tests"))

    def test_a_process_between_a_test_and_its_ranks(self):
        case = Place(unittest.case.__file__, 1, "run")
        self.assertEqual(
            position_of_process(snapshot(frames=(TORCH, case))).doing,
            "setting up or tearing down a test",
        )
        taken = snapshot(frames=(HERE, case))
        self.assertEqual(position_of_process(taken).where, "/x/test_model.py:41 in test_sync")


class TestProcesses(Asking):
    def test_in_a_collective(self):
        for size in (2, 4):
            with self.subTest(size):
                text, _ = self.asked(
                    timed.Waiting, "test_in_a_collective", "all_reduce", "running", size=size
                )
                *waiting, running = self.lines(text)
                self.assertEqual(len(waiting), size - 1)
                self.assertRegex(
                    running, r"^running +\S*timed.py:\d+ in wait_until_told   \(body for"
                )
                # Ranks may still be on their way into it.
                self.assertRegex(
                    "\n".join(waiting),
                    r"waiting in all_reduce \(gloo\) for \d+\.\d s   "
                    r"\S*timed.py:\d+ in test_in_a_c",
                )

    def test_alone(self):
        text, _ = self.asked(timed.Waiting, "test_in_a_collective", "wait_until_told", size=1)
        self.assertEqual(len(self.lines(text)), 1)

    def test_in_recv(self):
        self.asked(timed.Waiting, "test_in_recv", "waiting in recv from rank 1", "in test_in_recv")

    def test_in_a_rendezvous(self):
        words = ("waiting in init_process_group", "in test_in_a_rendezvous", "running")
        self.asked(timed.Waiting, "test_in_a_rendezvous", *words)

    def test_in_a_meeting(self):
        words = ("waiting in assertRanksAgree", "in test_in_a_meeting", "running")
        self.asked(timed.Waiting, "test_in_a_meeting", *words)

    def test_in_set_up(self):
        words = ("rank 1  setting up", "in wait_until_told", "rank 0  passed")
        self.asked(timed.Waiting, "test_in_set_up", *words)

    def test_in_tear_down(self):
        words = ("rank 1  tearing down", "in wait_until_told", "rank 0  passed")
        self.asked(timed.Waiting, "test_in_tear_down", *words)

    def test_ranks_that_stay(self):
        for kind in ("group", "none"):
            for _ in range(2):
                with self.subTest(kind):
                    self.asked(
                        *(
                            timed.Waiting,
                            "test_in_a_collective",
                            "waiting in all_reduce",
                            "running",
                        ),
                        HARNESS_ISOLATION=kind,
                    )

    def test_ranks_that_are_spawned(self):
        """Slow: fresh interpreters import torch."""
        env = {"HARNESS_START_METHOD": "spawn"}
        words = ("rank 0  starting", "(start for")
        self.asked(timed.Waiting, "test_in_a_meeting", *words, **env)
        words = ("waiting in assertRanksAgree", "running")
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
                    timed.OnThreads, "test_waits", "waiting in all_reduce", "running", size=size
                )
                *_, last = self.lines(text)
                self.assertRegex(last, r"^running +\S*timed.py:\d+ in test_waits   \(body for")

    def test_alone(self):
        self.asked(timed.OnThreads, "test_waits", "rank 0  running", "in test_waits", size=1)


class TestWithoutRanks(Asking):
    def test_a_test_that_waits_in_native_code(self):
        self.asked(timed.Alone, "test_waits", "  main thread  running   ", "in test_waits")

    def test_by_a_signal(self):
        before = signal.signal(signal.SIGUSR1, lambda *_: where.ask())
        self.addCleanup(signal.signal, signal.SIGUSR1, before)
        main = threading.main_thread().ident

        def ask(*wanted):
            return Asking.ask_until(
                self, *wanted, ask=lambda: signal.pthread_kill(main, signal.SIGUSR1)
            )

        with mock.patch.object(self, "ask_until", ask):
            self.asked(timed.Alone, "test_waits", "main thread  running", "in test_waits")
            self.asked(timed.Waiting, "test_in_recv", "waiting in recv from rank 1")

    def test_after_a_test(self):
        self.asked(timed.Waiting, "test_in_set_up", "setting up")
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


if __name__ == "__main__":
    unittest.main()
