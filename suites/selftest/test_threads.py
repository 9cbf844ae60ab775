"""Ranks that are threads: every one counts, and whatever goes wrong ends the test."""

from __future__ import annotations

import os
import unittest
import warnings
from unittest import mock

import torch
import torch.distributed as dist

from harness.cases.thread_mixin import spawn_threads_and_init_comms
from harness.model.errors import HookSignatureError, SettingError, ThreadLeakWarning
from suites.samples import threaded, threaded_faults
from suites.selftest.support import run_case

# By test of `Faulty`: unittest's word, the class of the exception, and what the text must hold.
FAULTS = {
    "test_fail": ("failed", "RanksFailedError", "rank 1: AssertionError: rank 1 is not pleased"),
    "test_fail_after_a_collective": ("failed", "RanksFailedError", "Expected 0 but got"),
    "test_fail_before_a_new_group": ("error", "RanksRaisedError", "rank 0 makes no group"),
    "test_raise_after_all": ("error", "RanksRaisedError", "rank 1: ValueError: after all"),
    "test_loop_after_all": ("error", "RanksTimedOutError", "1 of 3 ranks timed out"),
    "test_ranks_of_a_rank": (
        "error",
        "RanksRaisedError",
        "a thread rank cannot start thread ranks",
    ),
    "test_raise_in_set_up": ("error", "RanksRaisedError", "rank 1: ValueError: set-up of rank 1"),
    "test_raise_in_tear_down": ("error", "RanksRaisedError", "ValueError: tear-down of rank 2"),
    "test_exit": ("error", "RanksDiedError", "rank 2: exited with code 0 before its body finished"),
    "test_exit_is_no_expected_failure": ("error", "RanksDiedError", "exited with code 3"),
    "test_other_collective": (
        "error",
        "RanksRaisedError",
        "collectives: ranks 0-2 diverge at collective 2 of group 'default_pg'",
    ),
    "test_other_size": ("error", "RanksRaisedError", "all_reduce SUM float32 [1] on rank 0"),
    "test_other_dtype": ("error", "RanksRaisedError", "all_reduce SUM float64 [4] on rank 2"),
    "test_other_root": ("error", "RanksRaisedError", "broadcast root 1 float32 [4] on rank 0"),
    "test_other_reduction": ("error", "RanksRaisedError", "all_reduce MAX float32 [1] on rank"),
    "test_wrong_shape_of_output": (
        "error",
        "RanksRaisedError",
        "must match the size of tensor b (3)",
    ),
    "test_returns_early": (
        "error",
        "RanksDeadlockedError",
        "rank 1 never reached collective 1 of group 'default_pg'",
    ),
    "test_loop": ("error", "RanksTimedOutError", "in test_loop  (the test)"),
}


# By test of `Stuck`: what the report must say of the rank that waits.
STUCK = {
    "test_new_group": "rank 0: waiting in new_group\n",
    "test_init_process_group": "rank 1: waiting in init_process_group\n",
    "test_device_mesh": "rank 0: waiting in new_group\n",
    "test_new_group_against_a_collective": "rank 0: waiting in new_group\n",
    "test_barrier": "rank 1: waiting in barrier (threaded) for",
    # By all_gather, or by all_gather_single since torch 2.15.
    "test_all_gather_object": "rank 0: waiting in all_gather",
    "test_functional_collective": "rank 1: waiting in all_reduce (threaded) for",
    "test_meeting": "rank 0: waiting in assertRanksAgree",
}


class WithQuickWatch(unittest.TestCase):
    """Deadlocks are taken for certain sooner than in real use: the ranks here do little else."""

    def setUp(self):
        self.enterContext(mock.patch.dict(os.environ, HARNESS_DEADLOCK_AFTER="0.3"))


class TestSound(unittest.TestCase):
    def test_all(self):
        for cls in (threaded.Sound, threaded.Sizes):
            for name in unittest.defaultTestLoader.getTestCaseNames(cls):
                with self.subTest(f"{cls.__name__}.{name}"):
                    result = run_case(cls, name)
                    expected = "expected failure" if "expected" in name else "passed"
                    self.assertEqual(result.status, expected, result.text)

    def test_the_process_is_left_as_it_was(self):
        world = dist.distributed_c10d._world
        run_case(threaded.Sound, "test_groups")
        run_case(threaded_faults.Faulty, "test_fail")
        self.assertIs(dist.distributed_c10d._world, world)
        self.assertFalse(dist.is_initialized())
        # What a rank has registered stays, as its modules do.
        run_case(threaded.Sound, "test_a_backend_of_its_own")
        self.assertIn("OF_A_RANK", dist.Backend._plugins)
        x = torch.ones(1, requires_grad=True)
        x.backward()
        self.assertEqual(x.grad, torch.ones(1))


class TestSkips(WithQuickWatch):
    def test_all_ranks(self):
        for name, reason in (
            ("test_all", "not today"),
            ("test_exit_code", "without a reason"),
            ("test_gpus", "needs at least 64 GPUs"),
        ):
            result = run_case(threaded.Skipping, name)
            self.assertEqual(result.status, "skipped", result.text)
            self.assertIn(reason, result.text)

    @unittest.skipIf(dist.is_nccl_available(), "this torch has nccl")
    def test_backend(self):
        result = run_case(threaded.Skipping, "test_nccl")
        self.assertEqual(result.status, "skipped", result.text)

    def test_a_rank_that_skips_leaves_its_peers_in_peace(self):
        for _ in range(20):
            result = run_case(threaded.Skipping, "test_exit_code_after_a_collective")
            self.assertEqual(result.status, "skipped", result.text)

    def test_one_rank_alone_is_no_skip(self):
        result = run_case(threaded.Skipping, "test_one")
        self.assertEqual(result.status, "error", result.text)
        self.assertIn("RanksDisagreeError", result.text)
        result = run_case(threaded.Skipping, "test_one_while_the_other_waits")
        self.assertEqual(result.status, "error", result.text)
        self.assertIn("1 of 2 ranks deadlocked", result.text)
        self.assertIn("(rank 1 skipped)", result.text)


class TestFaults(WithQuickWatch):
    def test_each(self):
        for name, (status, error, text) in FAULTS.items():
            with self.subTest(name):
                result = run_case(threaded_faults.Faulty, name)
                self.assertEqual(result.status, status, result.text)
                self.assertIn(f"harness.{error}", result.text)
                self.assertIn(text, result.text)

    def test_each_wait_is_found_and_named(self):
        for name, text in STUCK.items():
            with self.subTest(name):
                result = run_case(threaded_faults.Stuck, name)
                self.assertEqual(result.status, "error", result.text)
                self.assertIn("harness.RanksDeadlockedError", result.text)
                self.assertIn(text, result.text)
                self.assertIn(f"in {name}  (the test)", result.text)

    def test_errors_in_collectives_reach_all_members(self):
        for name in unittest.defaultTestLoader.getTestCaseNames(threaded_faults.CollectiveErrors):
            with self.subTest(name):
                result = run_case(threaded_faults.CollectiveErrors, name)
                self.assertEqual(result.status, "passed", result.text)

    def test_what_threads_take_and_gloo_refuses(self):
        for name in unittest.defaultTestLoader.getTestCaseNames(threaded.TakenByThreads):
            with self.subTest(name):
                result = run_case(threaded.TakenByThreads, name)
                self.assertEqual(result.status, "passed", result.text)
                result = run_case(threaded.RefusedByGloo, name)
                self.assertEqual(result.status, "error", result.text)
                self.assertRegex(result.text, "invalid tensor size|must be contiguous")

    def test_subtests_are_told_apart(self):
        result = run_case(threaded_faults.Faulty, "test_subtests")
        self.assertEqual(result.status, "failed", result.text)
        self.assertEqual(len(result.titles), 3, result.titles)

    def test_a_thread_that_cannot_be_ended(self):
        threaded_faults.ENOUGH.clear()
        self.addCleanup(threaded_faults.ENOUGH.set)
        with self.assertWarnsRegex(ThreadLeakWarning, "rank 2 could not be ended and still runs"):
            result = run_case(threaded_faults.Faulty, "test_hangs_in_native_code")
        self.assertEqual(result.status, "error", result.text)
        self.assertIn("in test_hangs_in_native_code  (the test)", result.text)
        # It does not disturb the next test.
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            self.assertEqual(run_case(threaded.Sound, "test_objects").status, "passed")

    def test_what_went_wrong_first_is_told(self):
        threaded_faults.ENOUGH.clear()
        self.addCleanup(threaded_faults.ENOUGH.set)
        with self.assertWarns(ThreadLeakWarning):
            result = run_case(threaded_faults.Faulty, "test_fail_before_a_hang")
        self.assertEqual(result.status, "failed", result.text)
        self.assertIn("AssertionError: the reason", result.text)

    def test_an_override_that_runs_twice(self):
        result = run_case(threaded.RunsTwice, "test_fails_the_second_time")
        self.assertEqual(result.status, "failed", result.text)

    def test_an_override_that_runs_nothing(self):
        result = run_case(threaded.NoRun, "test_nothing")
        self.assertEqual(result.status, "error")
        self.assertIn("must call self.run_test_with_threaded_pg", result.text)

    def test_a_hook_with_other_parameters(self):
        with self.assertRaisesRegex(HookSignatureError, r"Wrong\.perThreadSetUp\(self, rank\)"):

            class Wrong(threaded.MultiThreadedTestCase):
                def perThreadSetUp(self, rank):
                    pass


class TestDecorator(unittest.TestCase):
    def test_a_timeout_that_is_none(self):
        for value in (0, -1.0, "3", True):
            with self.assertRaisesRegex(SettingError, f"timeout={value!r}.*positive number"):
                spawn_threads_and_init_comms(timeout=value)

    def test_verdicts(self):
        for name, status in (
            ("test_sum", "passed"),
            ("test_fail", "failed"),
            ("test_skip", "skipped"),
            ("test_inner_function", "passed"),
        ):
            result = run_case(threaded.Decorated, name)
            self.assertEqual(result.status, status, result.text)
