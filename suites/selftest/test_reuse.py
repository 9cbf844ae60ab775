"""Worlds whose ranks stay from test to test: shared, proved clean, replaced, recycled, ended."""

from __future__ import annotations

import json
import os
import sys
import unittest
import warnings
from unittest import mock

import psutil

from harness import SettingError, StateLeakWarning, WorldExitWarning, isolation
from harness.ranks import pool as pools
from harness.ranks.pool import pool
from suites.samples import leaks, reused
from suites.selftest.support import (
    COMMAND_LIMIT_S,
    CommandTestCase,
    InProcess,
    marked,
    run_case,
    run_python,
)


class Reuse(InProcess):
    def setUp(self):
        super().setUp()
        self.addCleanup(pool().close)
        pool().close()  # what other tests have left

    def pids(self, cls, method, **env):
        """Run a sample that must pass; returns the processes of its ranks."""
        return tuple(int(text) for text in self.passes(cls, method, **env))

    def run_recorded(self, cls, method, status, **env):
        texts, result = self.recorded_by(cls, method, status, **env)
        return tuple(map(int, texts)), result


class TestSharing(Reuse):
    def test_a_class(self):
        first = self.pids(reused.Sound, "test_one")
        self.assertEqual(self.pids(reused.Sound, "test_two"), first)

    def test_classes(self):
        first = self.pids(reused.Sound, "test_one")
        for cls in (reused.Sibling, reused.Patient, reused.Sound):
            self.assertEqual(self.pids(cls, "test_one"), first)

    def test_processes_is_the_usual_isolation(self):
        first = self.pids(reused.Own, "test_by_helper")
        self.assertNotEqual(self.pids(reused.Own, "test_by_helper"), first)

    def test_by_the_environment(self):
        for kind in ("group", "none"):
            with self.subTest(kind):
                first = self.pids(reused.Own, "test_by_helper", HARNESS_ISOLATION=kind)
                for method in ("test_by_helper_again", "test_without_group", "test_by_helper"):
                    again = self.pids(reused.Own, method, HARNESS_ISOLATION=kind)
                    self.assertEqual(again, first)

    def test_a_group_of_torchs_in_processes_that_stay(self):
        first = self.pids(reused.Own, "test_by_torch", HARNESS_ISOLATION="group")
        for method in ("test_subgroup", "test_by_torch", "test_by_helper"):
            self.assertEqual(self.pids(reused.Own, method, HARNESS_ISOLATION="group"), first)

    def test_a_group_that_is_kept_is_nobodys_until_asked_for(self):
        with mock.patch.dict(os.environ, HARNESS_ISOLATION="none"):
            self.pids(reused.Own, "test_by_helper")
            result = run_case(reused.Own, "test_needs_group")
            self.assertEqual(result.status, "error")
            self.assertIn("has not been initialized", result.text)
            first = self.pids(reused.Own, "test_by_helper")
            for method in ("test_by_torch", "test_one_after_the_other", "test_by_helper_again"):
                self.passes(reused.Own, method)
            self.assertEqual(self.pids(reused.Own, "test_by_helper"), first)

    def test_the_switch_back(self):
        first = self.pids(reused.Sound, "test_one", HARNESS_ISOLATION="process")
        self.assertNotEqual(self.pids(reused.Sound, "test_two", HARNESS_ISOLATION="process"), first)

    def test_the_decorator_beats_all(self):
        first = self.pids(reused.Sound, "test_one")
        alone = self.pids(reused.Sound, "test_alone", HARNESS_ISOLATION="none")
        self.assertNotEqual(alone, first)
        self.assertEqual(self.pids(reused.Sound, "test_two"), first)

    def test_the_class_beats_the_environment(self):
        with mock.patch.object(reused.Own, "isolation", "group"):
            first = self.pids(reused.Own, "test_by_helper", HARNESS_ISOLATION="process")
            again = self.pids(reused.Own, "test_by_helper_again", HARNESS_ISOLATION="process")
            self.assertEqual(again, first)

    def test_other_surroundings_have_other_worlds(self):
        first = self.pids(reused.Sound, "test_one")
        self.assertNotEqual(self.pids(reused.Sound, "test_one", EXTRA="1"), first)
        with mock.patch.object(reused.Sound, "world_size", 3):
            self.assertEqual(len(self.pids(reused.Sound, "test_one")), 3)
        self.assertEqual(self.pids(reused.Sound, "test_one"), first)

    def test_random_generators_begin_anew(self):
        for _ in range(2):
            self.pids(reused.Sound, "test_draws")

    def test_recycling(self):
        seen = [self.pids(reused.Sound, "test_one", HARNESS_WORLD_TESTS="2") for _ in range(4)]
        self.assertEqual(seen[0], seen[1])
        self.assertEqual(seen[2], seen[3])
        self.assertNotEqual(seen[1], seen[2])

    def test_few_worlds_wait(self):
        for number in range(6):
            self.pids(reused.Sound, "test_one", EXTRA=str(number))
        self.assertEqual(len(pool()._idle), pools._MAX_IDLE_WORLDS)

    def test_not_an_isolation(self):
        with self.assertRaisesRegex(SettingError, "one of process, group, none"):
            isolation("thread")
        with mock.patch.object(reused.Own, "isolation", "thread"):
            result = run_case(reused.Own, "test_without_group")
        self.assertEqual(result.status, "error")
        self.assertIn("Own.isolation = 'thread': isolation must be one of", result.text)


class TestOutcomes(Reuse):
    def test_a_skip_keeps_the_world(self):
        first = self.pids(reused.Sound, "test_one")
        skipped, result = self.run_recorded(reused.Sound, "test_skips", "skipped")
        self.assertEqual((skipped, result.text), (first, "not today"))
        self.assertEqual(self.pids(reused.Sound, "test_two"), first)

    def test_a_failure_replaces_the_world(self):
        first = self.pids(reused.Sound, "test_prints")
        failed, result = self.run_recorded(reused.Sound, "test_fails", "failed")
        self.assertEqual(failed, first)
        self.assertNotEqual(self.pids(reused.Sound, "test_two"), first)
        # Of what ranks have printed, what belongs to this test.
        self.assertIn("said by test_fails", result.text)
        self.assertNotIn("said by test_prints", result.text)

    def test_what_goes_wrong_after_the_body(self):
        for kind in ("process", "group"):
            with self.subTest(kind), mock.patch.dict(os.environ, HARNESS_ISOLATION=kind):
                result = run_case(reused.AfterTheBody, "test_passes")
                self.assertEqual(result.status, "failed", result.text)
                self.assertIn("rank 1: AssertionError: seen after the body", result.text)

    def test_a_test_that_takes_too_long(self):
        env = {"HARNESS_ISOLATION": "group", "HARNESS_DEADLOCK_AFTER": "0"}
        self.pids(reused.Own, "test_by_helper", **env)
        with mock.patch.dict(os.environ, {"SAMPLE_OUT": str(self.out), **env}):
            result = run_case(reused.Own, "test_takes_too_long")
        self.assertEqual(result.status, "error")
        self.assertIn("timed out after 1 s", result.text)
        self.assertLess(result.seconds, 60)  # ranks may take 180 s to start, but these have

    def test_what_is_done_to_a_rank_on_purpose_is_no_leak(self):
        for method in ("test_killed", "test_stopped"):
            with self.subTest(method):
                first = self.pids(reused.Sound, "test_one", HARNESS_LEAKS="error")
                hit = self.pids(reused.Hit, method, HARNESS_LEAKS="error")
                self.assertEqual(hit, first)
                after = self.pids(reused.Sound, "test_two", HARNESS_LEAKS="error")
                self.assertTrue(set(after).isdisjoint(first), (first, after))

    def test_survivors_can_leak(self):
        with mock.patch.dict(os.environ, HARNESS_LEAKS="error"):
            result = run_case(reused.Hit, "test_stopped_and_left")
        self.assertEqual(result.status, "error", result.text)
        self.assertIn("rank 0: environment variable LEFT: 1 left behind", result.text)
        self.assertNotIn("rank 1", result.text.replace("rank=1", ""))

    def test_a_world_that_died_while_it_waited(self):
        first = self.pids(reused.Sound, "test_one")
        os.kill(first[0], 9)
        pool()._idle[-1].world.processes[0].join(5)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self.assertNotEqual(self.pids(reused.Sound, "test_two"), first)
        (told,) = [w for w in caught if w.category is WorldExitWarning]
        self.assertIn("rank 0 exited with code -9", str(told.message))


class TestRemains(Reuse):
    def test_each(self):
        for method, words in reused.REMAINS.items():
            with self.subTest(method):
                self.check(method, words)

    def check(self, method, words):
        first = self.pids(reused.Sound, "test_one")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self.passes(reused.Remains, method)
        told = [str(w.message) for w in caught if w.category is StateLeakWarning]
        after = self.pids(reused.Sound, "test_one")
        if words is None:
            self.assertEqual((told, after), ([], first))
        else:
            self.assertEqual(len(told), 1, told)
            self.assertIn(words, told[0])
            self.assertNotEqual(after, first)

    def test_an_error_with_the_switch(self):
        with mock.patch.dict(os.environ, HARNESS_LEAKS="error"):
            result = run_case(reused.Remains, "test_environment")
        self.assertEqual(result.status, "error")
        self.assertIn("harness.StateLeakError", result.text)
        self.assertIn("environment variable LEFT", result.text)

    def test_every_method_has_its_words(self):
        methods = unittest.TestLoader().getTestCaseNames(reused.Remains)
        self.assertEqual(sorted(methods), sorted(reused.REMAINS))


class TestEveryLook(unittest.TestCase):
    def test_each_leak_is_noticed_and_nothing_else(self):
        finished = run_python("-W", "ignore", "-m", "suites.samples.leaks", LC_ALL="C.UTF-8")
        self.assertEqual(finished.returncode, 0, finished.stderr)
        found = json.loads(finished.stdout.splitlines()[-1])
        self.assertEqual(found.keys(), leaks.LEAKS.keys())
        for name, (_, words) in leaks.LEAKS.items():
            with self.subTest(name):
                differs, told = found[name]
                self.assertEqual(differs, words != leaks.NOTHING, told)
                self.assertIn(words, "\n".join(told))


class TestHundred(CommandTestCase):
    def test_three_go_wrong(self):
        finished = self.harness("suites.samples.reused.Hundred")
        self.assertEqual(finished.last_line, "97 passed, 2 failed, 1 skipped", finished.out)
        self.assert_clean(finished)


class TestForksOfTheParent(CommandTestCase):
    def test_they_leave_the_worlds_alone(self):
        self.write(
            "script.py",
            """
            import os, signal, sys
            from harness import run_on_ranks

            def pid():
                return os.getpid()

            first = run_on_ranks(pid, 2, isolation="group")
            child = os.fork()
            if child == 0:
                sys.exit(0)  # with exit handlers
            os.waitpid(child, 0)
            assert run_on_ranks(pid, 2, isolation="group") == first
            if os.fork() == 0:
                signal.pause()  # outlives its parent
            print(*first, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
            """,
        )
        command = self.start(sys.executable, "script.py")
        self.assertEqual(command.wait(COMMAND_LIMIT_S), -9)
        pids = {int(text) for text in command.stdout.readline().split()}
        self.assertEqual(len(pids), 2)
        ranks = [p for p in self.processes() if p.pid in pids]
        alive = psutil.wait_procs(ranks, 10)[1]
        for process in self.processes():
            process.kill()
        self.finish(command)
        self.assertEqual(alive, [])

    def processes(self):
        return [p for p in psutil.process_iter() if marked(p, self.sandbox.mark)]
