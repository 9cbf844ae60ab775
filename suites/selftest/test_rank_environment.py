"""What every rank gets from the harness: environment, folder, threads, seed."""

from __future__ import annotations

import json
import os
import sys
from unittest import mock

from suites.samples import sound
from suites.selftest.support import InProcess, cores


class TestWhatRanksGet(InProcess):
    def passes(self, cls, method, **env):
        return super().passes(cls, method, **{"HARNESS_START_METHOD": "forkserver", **env})

    def test_environment_of_the_moment(self):
        for value in ("one", "two"):
            found = self.passes(sound.Recording, "test_environ", SAMPLE_VALUE=value)
            self.assertEqual(found, [value] * 2)

    def test_current_folder_with_a_space_in_its_name(self):
        here = os.getcwd()
        os.chdir(self.out)
        try:
            found = self.passes(sound.Recording, "test_cwd")
        finally:
            os.chdir(here)
        self.assertEqual(found, [os.path.realpath(self.out)] * 2)

    def test_module_path_and_arguments(self):
        with mock.patch.object(sys, "path", [*sys.path, "/nowhere/at all"]):
            (paths, _) = self.passes(sound.Recording, "test_sys_path")
        self.assertIn("/nowhere/at all", paths.split("\n"))
        with mock.patch.object(sys, "argv", ["prog", "--option", "x"]):
            found = self.passes(sound.Recording, "test_argv")
        self.assertEqual(found, ["prog\n--option\nx"] * 2)

    def test_a_share_of_the_cores_each(self):
        with cores(6):
            self.assertEqual(self.passes(sound.Recording, "test_threads"), ["3", "3"])
        with cores(1):
            self.assertEqual(self.passes(sound.Recording, "test_threads"), ["1", "1"])
        found = self.passes(sound.Recording, "test_threads", OMP_NUM_THREADS="2")
        self.assertEqual(found, ["2", "2"])

    def test_torch_debug_level_of_the_moment(self):
        for level in ("OFF", "DETAIL"):
            found = self.passes(sound.Recording, "test_debug_level", TORCH_DISTRIBUTED_DEBUG=level)
            self.assertEqual(found, [level] * 2)

    def test_the_same_seed(self):
        first = self.passes(sound.Recording, "test_seed")
        again = self.passes(sound.Recording, "test_seed")
        other = self.passes(sound.Recording, "test_seed", HARNESS_SEED="5")
        self.assertEqual(first[0], first[1])
        self.assertEqual(first, again)
        self.assertNotEqual(first, other)

    def test_loopback_unless_told_otherwise(self):
        self.assertEqual(self.passes(sound.Recording, "test_interface"), ["lo", "lo"])
        found = self.passes(sound.Recording, "test_interface", GLOO_SOCKET_IFNAME="eth7")
        self.assertEqual(found, ["eth7", "eth7"])

    def test_processes_of_their_own(self):
        pids = self.passes(sound.Recording, "test_pid")
        self.assertEqual(len({*pids, str(os.getpid())}), 3)

    def test_hooks_run_in_every_rank(self):
        found = self.passes(sound.Recording, "test_hooks")
        self.assertEqual(found, ["perRankSetUp,perRankTearDown"] * 2)

    def test_world_size_that_the_module_computed_from_another_environment(self):
        """The fork server imported the module long before the variable was set."""
        with mock.patch.object(sound.SizeByEnvironment, "world_size", 3):
            self.assertEqual(self.passes(sound.SizeByEnvironment, "test_world_size"), ["3"] * 3)


class TestWhatSpawnedRanksGet(InProcess):
    """Slow: every world starts interpreters that import torch, so one has to show everything."""

    def passes(self, cls, method, **env):
        return super().passes(cls, method, **{"HARNESS_START_METHOD": "spawn", **env})

    def test_everything(self):
        environ = {
            "SAMPLE_VALUE": "of the moment",
            "TORCH_DISTRIBUTED_DEBUG": "DETAIL",
            "GLOO_SOCKET_IFNAME": "eth7",
            "HARNESS_SEED": "5",
        }
        here = os.getcwd()
        os.chdir(self.out)
        try:
            with (
                mock.patch.object(sys, "path", [*sys.path, "/nowhere/at all"]),
                mock.patch.object(sys, "argv", ["prog", "--option", "x"]),
                cores(6),
            ):
                found = [json.loads(text) for text in self.everything(**environ)]
        finally:
            os.chdir(here)
        forked = json.loads(self.everything(HARNESS_SEED="5", HARNESS_START_METHOD="forkserver")[0])
        pids = {rank["pid"] for rank in found}
        self.assertEqual(len({*pids, os.getpid()}), 3)
        for rank in found:
            self.assertEqual(rank["environ"], "of the moment")
            self.assertEqual(rank["cwd"], os.path.realpath(self.out))
            self.assertIn("/nowhere/at all", rank["sys_path"])
            self.assertEqual(rank["argv"], ["prog", "--option", "x"])
            self.assertEqual(rank["threads"], 3)
            self.assertEqual(rank["seed"], forked["seed"])
            self.assertEqual(rank["debug_level"], "DETAIL")
            self.assertEqual(rank["interface"], "eth7")
            self.assertEqual(rank["hooks"], ["perRankSetUp"])

    def everything(self, **env):
        return self.passes(sound.Recording, "test_everything", **env)

    def test_world_size_that_the_module_computed_from_another_environment(self):
        with mock.patch.object(sound.SizeByEnvironment, "world_size", 3):
            self.assertEqual(self.passes(sound.SizeByEnvironment, "test_world_size"), ["3"] * 3)
