"""Every fault of the samples: verdict, text, time, and nothing left, in each way to run tests."""

from __future__ import annotations

import os
import shutil
import unittest
from pathlib import Path

from suites.samples import faults
from suites.selftest import fault_runs
from suites.selftest.fault_runs import ALL, WAYS, class_of
from suites.selftest.support import CommandTestCase

# Both start methods differ in how a rank comes to be and how it leaves; these are the faults that
# could tell. With HARNESS_ALL_FAULTS=1, all of them run under spawn too, which takes ten minutes.
UNDER_SPAWN = (
    "test_sigkill",
    "test_segfault",
    "test_sys_exit_5",
    "test_death_in_exit_handler",
    "test_killed_last",
    "test_assertion_rank_1",
    "test_all_differently",
    "test_skip_on_one_rank",
    "test_expected_assertion",
    "test_gil",
    "test_endless_thread",
    "test_desync",
    "test_leaves_process",
    "test_leaves_fork",
    "test_death_in_set_up",
)
# A machine that is busy with something else may be late now and then.
ATTEMPTS = 3


class FaultRun(CommandTestCase):
    def check(self, way: str, method: str, names: tuple[str, ...]) -> None:
        late = dict.fromkeys(names)
        for attempt in range(ATTEMPTS):
            late = self.run_once(way, method, tuple(late), judge_text=attempt == 0)
            if not late:
                return
        self.fail(f"ended too late after the fault {ATTEMPTS} times over: {late}")

    def run_once(self, way, method, names, judge_text):
        """Run the faults, check all but the time; returns those that took too long, with it."""
        notes = Path(self._base, "notes")
        shutil.rmtree(notes, ignore_errors=True)
        notes.mkdir()
        finished = self.run_command(
            *fault_runs.command(way, names), **fault_runs.environ(method, notes)
        )
        told = fault_runs.read(way, finished, names, notes)
        if judge_text:
            self.assertEqual(finished.code != 0, True)
            for name in names:
                with self.subTest(way=way, method=method, fault=name):
                    found = fault_runs.complaints(way, faults.FAULTS[name], told[name])
                    self.assertEqual(found, [], told[name].text[:5000])
        self.assert_clean(finished)
        return {
            name: told[name].after_s
            for name in names
            if told[name].after_s > faults.FAULTS[name].within_s
        }


class TestFaults(FaultRun):
    """Slow: each runs some sixty tests, some of which hang for a second."""

    def test_through_unittest(self):
        self.check("unittest", "forkserver", ALL)

    def test_through_run_tests(self):
        self.check("run_tests.py", "forkserver", ALL)

    def test_through_pytest(self):
        self.check("pytest", "forkserver", ALL)


class TestFaultsOfSpawnedRanks(FaultRun):
    """Slow: every rank is an interpreter that imports torch."""

    def test_each_in_one_of_the_ways(self):
        for i, way in enumerate(WAYS):
            self.check(way, "spawn", UNDER_SPAWN[i :: len(WAYS)])

    @unittest.skipUnless(os.environ.get("HARNESS_ALL_FAULTS"), "set HARNESS_ALL_FAULTS=1 for it")
    def test_all_in_all_ways(self):
        for way in WAYS:
            self.check(way, "spawn", ALL)


class TestTheTable(unittest.TestCase):
    def test_every_sample_is_in_it(self):
        found = {
            name
            for cls in vars(faults).values()
            if isinstance(cls, type)
            and issubclass(cls, unittest.TestCase)
            and cls.__module__ == faults.__name__
            for name in unittest.defaultTestLoader.getTestCaseNames(cls)
        }
        self.assertEqual(found, set(faults.FAULTS))

    def test_every_sample_is_found_by_its_class(self):
        for name in ALL:
            self.assertTrue(hasattr(getattr(faults, class_of(name)), name))
