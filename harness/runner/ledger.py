"""Keeps what became of every planned test: attempts, the order of the report, when to stop."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from harness.runner.results import RunResult, Status, TestRecord
from harness.runner.workers.schedule import Item


class Observer(Protocol):
    """Who is told of a run as it goes on."""

    def began(self, item: Item, worker: int, at_s: float) -> None:
        """A test has begun."""

    def ended(self, item: Item | None, record: TestRecord) -> None:
        """A test (or a fixture) is done; it will not be tried again."""

    def failed_once(self, item: Item, record: TestRecord) -> None:
        """A test has failed and will be tried again."""

    def done(self, item: Item) -> None:
        """Nothing more will come of the item: it has a record, or a fixture has kept it from it."""

    def say(self, text: str) -> None:
        """Show something at once."""

    def warn(self, text: str) -> None:
        """Show a warning at once, as Python prints it."""

    def tick(self) -> None:
        """Time has passed; called several times a second."""

    def hide(self) -> None:
        """The run stops for a while, and the terminal is somebody else's."""

    def show(self) -> None:
        """The run goes on."""


class Ledger:
    """All results of a run.

    Args:
        retries: how often a test that fails is tried again.
        max_fail: after how many failures to start nothing more; None for never.
        observer: is told.
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
        """Whether so many tests have failed that no more shall be started."""
        return self._max_fail is not None and self._failures >= self._max_fail

    def expect(self, items: Iterable[Item]) -> None:
        """These tests are to be run."""
        self._expected.update({(item.round, item.number): item.test.key for item in items})

    def explain(self, item: Item, fixture: str) -> None:
        """A test has not run, and has no record, since this fixture of its class or module failed.

        Args:
            item: the test.
            fixture: the key of the fixture's record.
        """
        self._explained[item.round, item.number] = fixture

    def take(self, item: Item, record: TestRecord, is_last: bool = False) -> None:
        """What one attempt at a test, or a fixture that it needed, came to.

        Args:
            item: the test.
            record: what came of it.
            is_last: whether no attempt can follow, since the run is stopped.
        """
        if record.is_fixture or record.test_id != item.test.test_id:
            self._take_fixture(item, record)
            return
        key = (item.round, item.number)
        if record.status is Status.FAILED and item.attempt <= self._retries and not is_last:
            self._earlier.setdefault(key, []).append(record)
            self._observer.failed_once(item, record)
            return
        record.earlier = self._earlier.pop(key, [])
        self._keep(key, _named_by_round(item, record))
        self._observer.ended(item, record)

    def _keep(self, key: tuple[int, int], record: TestRecord) -> None:
        self._records[key] = record
        self._failures += record.status is Status.FAILED

    def _take_fixture(self, item: Item, record: TestRecord) -> None:
        """A fixture fails once, however many workers it fails on."""
        if record.key in self._fixtures:
            return
        self._fixtures[record.key] = (item.round, item.number, record)
        self._failures += record.status is Status.FAILED
        self._observer.ended(None, record)

    def is_to_be_tried_again(self, item: Item) -> bool:
        """Whether the attempt that has just been done is to be followed by another."""
        return len(self._earlier.get((item.round, item.number), ())) == item.attempt

    def _give_up_retrying(self) -> None:
        """No more attempts: the last failure of each test that was to be tried again counts."""
        for key, records in self._earlier.items():
            *earlier, last = records
            last.earlier = earlier
            self._keep(key, last)
        self._earlier.clear()

    def close(self, run: RunResult) -> None:
        """Put all results into the run, in the order of the plan."""
        self._give_up_retrying()
        placed = [(key, 1, record) for key, record in self._records.items()]
        for round_number, number, record in self._fixtures.values():
            placed.append(((round_number, number), _side(record), record))
        placed.sort(key=lambda entry: entry[:2])
        run.records += [record for _, _, record in _by_plan(placed)]
        run.not_run = len(self._expected.keys() - self._records.keys())

    def lost(self) -> list[str]:
        """The tests without a record whose fixtures have not failed: unless the run was stopped,
        there are none.
        """
        return [
            name
            for key, name in self._expected.items()
            if key not in self._records and self._explained.get(key) not in self._fixtures
        ]


_Placed = tuple[tuple[int, int], int, TestRecord]


def _side(record: TestRecord) -> int:
    """Fixtures that set up come before the test at which they failed, the others after."""
    return 0 if record.test_id.startswith("setUp") else 2


def _by_plan(placed: Sequence[_Placed]) -> list[_Placed]:
    """Fixtures before the first, or after the last, test of theirs that has a record.

    The test at which one was noticed depends on how many workers there were.
    """
    tests = [entry for entry in placed if entry[1] == 1]
    fixtures = [entry for entry in placed if entry[1] != 1]
    for entry in fixtures:
        prefix = f"{entry[2].owner}."
        theirs = [i for i, (_, _, record) in enumerate(tests) if record.test_id.startswith(prefix)]
        if theirs:
            tests.insert(theirs[0] if entry[1] == 0 else theirs[-1] + 1, entry)
        else:
            at = next((i for i, other in enumerate(tests) if other[:2] > entry[:2]), len(tests))
            tests.insert(at, entry)
    return tests


def _named_by_round(item: Item, record: TestRecord) -> TestRecord:
    """Of a test that is repeated, each failure says in which round it was."""
    if item.round > 1:
        record.troubles = [
            replace(trouble, title=f"{trouble.title} (round {item.round})")
            for trouble in record.troubles
        ]
    return record
