"""Asking where every rank is changes no test's result."""

from __future__ import annotations

import os
import threading
import time
from unittest import mock

from harness.ranks.watch import where
from suites.samples import reused, slow, timed
from suites.selftest.support import COMMAND_LIMIT_S, run_case
from suites.selftest.where_runs import Asking

OFTEN_S = 0.01


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
        self.check(timed.Timed, "test_hangs", "error", "timed out after 1 s")

    def test_a_rank_that_is_killed(self):
        self.check(timed.Timed, "test_killed", "error", "killed by SIGKILL")

    def test_a_skip(self):
        self.check(timed.Timed, "test_skips", "skipped")
        self.check(reused.Sound, "test_skips", "skipped")

    def test_a_failure(self):
        self.check(timed.Timed, "test_fails", "failed", "the last rank is not pleased")
