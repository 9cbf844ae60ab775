"""Every fault of the samples: verdict, text, time, and nothing left, in each way to run tests."""

from __future__ import annotations

import os
import shutil
import unittest
from dataclasses import dataclass

from suites.samples import faults
from suites.selftest import fault_runs
from suites.selftest.fault_runs import ALL, Told, class_of
from suites.selftest.support import CommandTestCase, Finished, Sandbox

# The start methods differ in how a rank comes to be and how it leaves, the ways to run tests in how
# they report; these are the faults that could tell. With HARNESS_ALL_FAULTS=1, all of them run
# under spawn and pytest too, which takes ten minutes.
TELLING = (
    "test_segfault",
    "test_sys_exit_5",
    "test_death_in_exit_handler",
    "test_assertion_rank_1",
    "test_skip_on_one_rank",
    "test_gil",
    "test_desync",
    "test_leaves_fork",
    "test_death_in_set_up",
)
# How late the machine may make any of it: other tests run beside these. How long each fault takes
# where nothing else runs is measured by `python -m harness.bench faults`.
SLACK_S = 5.0


@dataclass
class Run:
    """Faults that are run in one way.

    Attributes:
        way: unittest, run_tests.py or pytest.
        method: the start method.
        names: the faults.
    """

    way: str
    method: str
    names: tuple[str, ...]

    def carry_out(self, sandbox: Sandbox) -> tuple[Finished, dict[str, Told]]:
        notes = sandbox.base / "notes"
        shutil.rmtree(notes, ignore_errors=True)
        notes.mkdir()
        env = fault_runs.environ(self.method, notes)
        finished = sandbox.run(*fault_runs.command(self.way, self.names), **env)
        return finished, fault_runs.read(self.way, finished, self.names, notes)


class FaultRun(CommandTestCase):
    def check(self, run: Run) -> None:
        finished, told = run.carry_out(self.new_sandbox())
        self.assertNotEqual(finished.code, 0)
        for name in run.names:
            with self.subTest(way=run.way, method=run.method, fault=name):
                found = fault_runs.complaints(run.way, faults.FAULTS[name], told[name])
                self.assertEqual(found, [], told[name].text[:5000])
                self.assertLess(told[name].after_s, faults.FAULTS[name].within_s + SLACK_S)
        self.assert_clean(finished)


SLOWEST = unittest.skipUnless(
    os.environ.get("HARNESS_ALL_FAULTS"), "set HARNESS_ALL_FAULTS=1 for it"
)


class TestFaults(FaultRun):
    """Slow: some sixty tests in each way, some of which hang for a second."""

    def test_all_under_unittest(self):
        self.check(Run("unittest", "forkserver", ALL))

    def test_all_under_run_tests(self):
        self.check(Run("run_tests.py", "forkserver", ALL))

    def test_some_under_pytest(self):
        self.check(Run("pytest", "forkserver", TELLING))

    @SLOWEST
    def test_all_under_pytest(self):
        self.check(Run("pytest", "forkserver", ALL))


class TestFaultsOfSpawnedRanks(FaultRun):
    """Slow: every rank is an interpreter that imports torch."""

    def test_some_under_unittest(self):
        self.check(Run("unittest", "spawn", TELLING[0::2]))

    def test_some_under_run_tests(self):
        self.check(Run("run_tests.py", "spawn", TELLING[1::2]))

    @SLOWEST
    def test_all_under_unittest(self):
        self.check(Run("unittest", "spawn", ALL))

    @SLOWEST
    def test_all_under_run_tests(self):
        self.check(Run("run_tests.py", "spawn", ALL))

    @SLOWEST
    def test_all_under_pytest(self):
        self.check(Run("pytest", "spawn", ALL))


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
