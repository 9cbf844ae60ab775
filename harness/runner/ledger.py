"""Collects the results of a run: attempts, the order of the report, when to stop.

The key of a planned test is (round, number in the plan). A test is in one of these states:

    expected    planned (`expect`), no result yet
    retrying    its last attempt failed, and another follows (in `_earlier`)
    done        it has a final record (in `_records`)
    explained   it did not run, because a fixture of its class or module failed
    lost        none of these when the run ends, and nothing stopped the run: a fault of the runner
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from harness.runner.results import RunResult, Status, TestRecord
from harness.runner.workers.schedule import Item


class Observer(Protocol):
    """Gets the events of a run, to show them."""

    def began(self, item: Item, worker: int, at_s: float) -> None:
        """A test has begun."""

    def ended(self, item: Item | None, record: TestRecord) -> None:
        """A test (or a fixture) has its final result."""

    def failed_once(self, item: Item, record: TestRecord) -> None:
        """A test has failed and will be retried."""

    def done(self, item: Item) -> None:
        """A test has its final result, or will not run because a fixture failed."""

    def say(self, text: str) -> None:
        """Show something at once."""

    def warn(self, text: str) -> None:
        """Show a warning at once, as Python prints it."""

    def tick(self) -> None:
        """Update what depends on time; called several times a second."""

    def hide(self) -> None:
        """The run is suspended, and another program uses the terminal."""

    def show(self) -> None:
        """The run continues."""


class Ledger:
    """All results of a run.

    Args:
        retries: how often a test that fails is retried.
        max_fail: after how many failures to start no more tests; None for no limit.
        observer: gets the results as they arrive.
    """

    def __init__(self, retries: int, max_fail: int | None, observer: Observer) -> None:
        self._retries = retries
        self._max_fail = max_fail
        self._observer = observer
        self._records: dict[tuple[int, int], TestRecord] = {}
        self._fixtures: dict[str, tuple[int, int, TestRecord]] = {}
        self._expected: dict[tuple[int, int], str] = {}
        self._explained: dict[tuple[int, int], str] = {}
        self._earlier: dict[tuple[int, int], list[TestRecord]] = {}
        self._failures = 0

    @property
    def has_enough(self) -> bool:
        """Whether the number of failures has reached --max-fail, so that no more tests start."""
        return self._max_fail is not None and self._failures >= self._max_fail

    def expect(self, items: Iterable[Item]) -> None:
        """Add tests to the plan."""
        self._expected.update({(item.round, item.number): item.test.key for item in items})

    def explain(self, item: Item, fixture: str) -> None:
        """Record that a test did not run because a fixture of its class or module failed.

        Args:
            item: the test.
            fixture: the key of the fixture's record.
        """
        self._explained[item.round, item.number] = fixture

    def take(self, item: Item, record: TestRecord, is_last: bool = False) -> None:
        """Add the result of one attempt at a test, or of a fixture that it needed.

        Args:
            item: the test.
            record: the result.
            is_last: whether no attempt can follow, because the run is stopping.
        """
        # A record with another id comes from a module's or class's fixture, whose name unittest
        # makes up.
        if record.is_fixture or record.test_id != item.test.test_id:
            self._take_fixture(item, record)
            return
        key = (item.round, item.number)
        if record.status is Status.FAILED and item.attempt <= self._retries and not is_last:
            self._earlier.setdefault(key, []).append(record)
            self._observer.failed_once(item, record)
            return
        # The last attempt is the result; the earlier ones are kept for reports, which call it
        # flaky.
        record.earlier = self._earlier.pop(key, [])
        self._add_record(key, _named_by_round(item, record))
        self._observer.ended(item, record)

    def _add_record(self, key: tuple[int, int], record: TestRecord) -> None:
        self._records[key] = record
        self._failures += record.status is Status.FAILED

    def _take_fixture(self, item: Item, record: TestRecord) -> None:
        """Add the result of a fixture, once: it may fail again on every worker."""
        if record.key in self._fixtures:
            return
        self._fixtures[record.key] = (item.round, item.number, record)
        self._failures += record.status is Status.FAILED
        self._observer.ended(None, record)

    def needs_retry(self, item: Item) -> bool:
        """Whether another attempt follows the one that has just ended."""
        return len(self._earlier.get((item.round, item.number), ())) == item.attempt

    def _end_retries(self) -> None:
        """Make the last failure of each test that waits for a retry its final result."""
        for key, records in self._earlier.items():
            # The run stopped before the retry, so the failure counts.
            *earlier, last = records
            last.earlier = earlier
            self._add_record(key, last)
        self._earlier.clear()

    def close(self, run: RunResult) -> None:
        """Move all results to the run, in the order of the plan."""
        self._end_retries()
        placed = [(key, 1, record) for key, record in self._records.items()]
        for round_number, number, record in self._fixtures.values():
            placed.append(((round_number, number), _sort_key(record), record))
        placed.sort(key=lambda entry: entry[:2])
        run.records += [record for _, _, record in _in_report_order(placed)]
        run.not_run = len(self._expected.keys() - self._records.keys())

    def lost(self) -> list[str]:
        """Return the tests that have neither a result nor a reason for that.

        If the run was not stopped, there are none, unless the runner has a bug.
        """
        return [
            name
            for key, name in self._expected.items()
            if key not in self._records and self._explained.get(key) not in self._fixtures
        ]


_Placed = tuple[tuple[int, int], int, TestRecord]


def _sort_key(record: TestRecord) -> int:
    """Return the sort key of a fixture: setup before its test (key 1), teardown after it."""
    return 0 if record.test_id.startswith("setUp") else 2


def _in_report_order(placed: Sequence[_Placed]) -> list[_Placed]:
    """Move setup fixtures before the first test of their class, teardown after the last one.

    The test at which a fixture failed depends on the number of workers; the report must not.
    """
    tests = [entry for entry in placed if entry[1] == 1]
    fixtures = [entry for entry in placed if entry[1] != 1]
    for entry in fixtures:
        prefix = f"{entry[2].owner}."
        # By prefix, since a module's fixture belongs to all of its classes.
        theirs = [i for i, (_, _, record) in enumerate(tests) if record.test_id.startswith(prefix)]
        if theirs:
            tests.insert(theirs[0] if entry[1] == 0 else theirs[-1] + 1, entry)
        else:
            at = next((i for i, other in enumerate(tests) if other[:2] > entry[:2]), len(tests))
            tests.insert(at, entry)
    return tests


def _named_by_round(item: Item, record: TestRecord) -> TestRecord:
    """Add the round to the titles of a repeated test's failures."""
    if item.round > 1:
        record.troubles = [
            replace(trouble, title=f"{trouble.title} (round {item.round})")
            for trouble in record.troubles
        ]
    return record
