"""What ranks are given, and what a world of them does, under both start methods."""

from __future__ import annotations

import os
from unittest import mock

from harness.ranks import folders
from harness.ranks.launch import process
from suites.samples import sound
from suites.selftest.support import InProcess, run_case


class TestWorlds(InProcess):
    def test_no_set_up_code_is_needed(self):
        self.passes(sound.WithoutSetUpCode, "test_all_reduce")
        self.passes(sound.WithoutSetUpCode, "test_process_group_is_left_to_the_harness")

    def test_tests_written_for_pytorchs_class(self):
        self.passes(sound.LikePyTorch, "test_sum_of_ranks")
        self.passes(sound.LikePyTorch, "test_processes_can_be_looked_at_in_the_parent")

    def test_override_of_run(self):
        self.passes(sound.OwnRun, "test_group_is_up")

    def test_ranks_are_started_twice(self):
        for isolation in ("process", "none"):
            env = {"HARNESS_ISOLATION": isolation, "SAMPLE_FIRST": ""}
            self.passes(sound.JoinsTwice, "test_passes", **env)
        self.passes(sound.StartsTwice, "test_only_the_last_ranks_count", SAMPLE_FIRST="")
        self.assert_no_folder_left()

    def test_override_of_the_check_of_exit_codes(self):
        for isolation in ("process", "none"):
            env = {"HARNESS_ISOLATION": isolation}
            self.passes(sound.ChecksExits, "test_rank_0_aborts", **env)
        result = run_case(sound.ChecksExits, "test_no_rank_aborts")
        self.assertEqual(result.status, "failed", result.text)
        self.assertIn("-6", result.text)
        result = run_case(sound.ChecksExits, "test_rank_1_fails")
        self.assertEqual(result.status, "error", result.text)
        self.assertIn("rank 1: ValueError", result.text)

    def test_world_sizes_as_separate_tests(self):
        for size in (1, 2, 3, 4, 8):
            found = self.passes(sound.Sizes, f"test_size_world_size_{size}")
            self.assertEqual(found, [str(size)] * size)

    def test_world_size_of_a_decorator(self):
        self.assertEqual(self.passes(sound.Sizes, "test_three"), ["3"] * 3)
        self.assertEqual(self.passes(sound.SizeByProperty, "test_three"), ["3"] * 3)

    def test_nothing_is_carried_from_test_to_test(self):
        self.passes(sound.FreshProcesses, "test_first")
        self.passes(sound.FreshProcesses, "test_second")

    def test_files_are_gone_after_the_test(self):
        (name, _) = self.passes(sound.Recording, "test_file_name")
        self.assertFalse(os.path.exists(name))
        self.assert_no_folder_left()

    def test_files_are_the_users_alone(self):
        folder = folders.new_test_folder("a test/with: odd name")
        self.addCleanup(folders.remove, folder)
        self.assertEqual(folder.stat().st_mode & 0o777, 0o700)
        self.assertEqual(folders.session_folder().stat().st_mode & 0o777, 0o700)


class TestScheduling(InProcess):
    def test_threads_do_not_take_the_processor_from_those_that_wake_them(self):
        for method in ("forkserver", "spawn"):
            env = {"HARNESS_START_METHOD": method, "HARNESS_ISOLATION": "process"}
            found = self.passes(sound.Recording, "test_scheduling", **env)
            self.assertEqual(found, [str([os.SCHED_BATCH])] * 2)

    def test_another_policy_is_kept(self):
        ours = os.sched_getscheduler(0)
        self.addCleanup(os.sched_setscheduler, 0, ours, os.sched_param(0))
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        with mock.patch.object(os, "sched_setscheduler") as change:
            process.let_threads_finish()
        change.assert_not_called()
