"""A test case for `WorkerPool`: it runs tests with fake workers, on a fake clock."""

from __future__ import annotations

from harness.model import settings
from harness.model.clock import NEVER
from harness.runner.ledger import Ledger
from harness.runner.options import Limits
from harness.runner.results import RunResult, Status
from harness.runner.selection.planned_test import PlannedTest
from harness.runner.workers import worker_pool
from harness.runner.workers.schedule import Item, Schedule
from harness.runner.workers.worker_pool import WorkerPool
from suites.selftest.fake_ranks import FakeTimeTestCase, Script
from suites.selftest.fake_workers import (
    Behaviour,
    FakeSignals,
    FakeStarter,
    FakeWorker,
    Recorder,
    World,
)

HANGS = Behaviour(seconds=None)
SHORT_S = 0.01
EXIT_LIMIT_S = settings.EXIT_TIMEOUT_S.default


class WorkerPoolTestCase(FakeTimeTestCase):
    """Runs tests with fake workers; a test says how its tests behave, and what happens when."""

    def setUp(self):
        super().setUp()
        self.signals, self.observer = FakeSignals(), Recorder()
        sources: list = [self.signals]
        self.script = Script(self.clock, sources)
        self.world = World(self.script, sources)
        self.starter = FakeStarter(self.world)
        self.patch(worker_pool, "readable", self.script.readable)

    @property
    def workers(self) -> list[FakeWorker]:
        return self.world.workers

    def items(self, *names, first=0, **more):
        """Tests of one class, by name; the first one has this number in the plan."""
        return [
            Item(number, PlannedTest(f"m.C.{name}", "m.C", loaded_from="m", **more))
            for number, name in enumerate(names, first)
        ]

    def run_all(
        self, *rounds, jobs=1, retries=0, max_fail=None, limit_s=None, run=NEVER, seconds=1.0
    ):
        """Run rounds of tests; returns their records, by the last part of the name."""
        ledger = Ledger(retries, max_fail, self.observer)
        for each in rounds:
            ledger.expect(each)
        known = {item.test.key: seconds for each in rounds for item in each}
        schedule = Schedule(known, jobs, max_ranks=8, in_order=True)
        self.pool = WorkerPool(self.starter, jobs, self.signals, self.observer)
        self.pool.run(iter(rounds), schedule, ledger, Limits(limit_s, run))
        result = RunResult()
        ledger.close(result)
        self.lost = ledger.lost()
        for worker in self.workers:
            self.assertTrue(worker.has_ended and worker.is_closed, worker.number)
        self.assertEqual(schedule.running, 0)
        return {record.test_id.removeprefix("m.C."): record for record in result.records}

    def behave(self, **behaviours):
        self.world.behaviours = behaviours

    def statuses(self, records):
        return {name: record.status for name, record in records.items()}

    def told(self, worker, kind):
        return [message for message in worker.told if isinstance(message, kind)]


PASSED, FAILED = Status.PASSED, Status.FAILED
