"""Every fault of the samples: verdict, text, time, and nothing left, in each way to run tests."""

from __future__ import annotations

import os
import shutil
import unittest
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from suites.samples import faults
from suites.selftest import fault_runs
from suites.selftest.fault_runs import ALL, WAYS, Told, class_of
from suites.selftest.support import CommandTestCase, Finished, Sandbox

# Both start methods differ in how a rank comes to be and how it leaves; these are the faults that
# could tell. With HARNESS_ALL_FAULTS=1, all of them run under spawn too, which takes ten minutes.
UNDER_SPAWN = (
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
# A machine that is busy with something else may be late now and then.
ATTEMPTS = 3


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
    def check(self, *runs: Run) -> None:
        """Carry the runs out side by side; then see whether those that were late always are."""
        sandboxes = [self.new_sandbox() for _ in runs]
        with ThreadPoolExecutor(len(runs)) as pool:
            results = list(pool.map(Run.carry_out, runs, sandboxes))
        for run, (finished, told) in zip(runs, results, strict=True):
            self.assertNotEqual(finished.code, 0)
            for name in run.names:
                with self.subTest(way=run.way, method=run.method, fault=name):
                    found = fault_runs.complaints(run.way, faults.FAULTS[name], told[name])
                    self.assertEqual(found, [], told[name].text[:5000])
            self.assert_clean(finished)
            self.check_times(run, told)

    def check_times(self, run: Run, told: dict[str, Told]) -> None:
        for _ in range(ATTEMPTS):
            late = {n: t.after_s for n, t in told.items() if t.after_s > faults.FAULTS[n].within_s}
            if not late:
                return
            _, told = Run(run.way, run.method, tuple(late)).carry_out(self.new_sandbox())
        self.fail(f"{run.way}, {run.method}: too long after the fault, {ATTEMPTS} times: {late}")


class TestFaults(FaultRun):
    """Slow: some sixty tests in each way, some of which hang for a second."""

    def test_all_in_every_way(self):
        self.check(*(Run(way, "forkserver", ALL) for way in WAYS))


class TestFaultsOfSpawnedRanks(FaultRun):
    """Slow: every rank is an interpreter that imports torch."""

    def test_some_in_each_way(self):
        for i, way in enumerate(WAYS):
            self.check(Run(way, "spawn", UNDER_SPAWN[i :: len(WAYS)]))

    @unittest.skipUnless(os.environ.get("HARNESS_ALL_FAULTS"), "set HARNESS_ALL_FAULTS=1 for it")
    def test_all_in_every_way(self):
        for way in WAYS:
            self.check(Run(way, "spawn", ALL))


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
