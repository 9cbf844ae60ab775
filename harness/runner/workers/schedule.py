"""Decide which test runs next, and on which worker: pure bookkeeping, no processes, no clock.

The rules:

    - Long tests start first, so that no long test runs alone at the end.
    - Tests that share a fixture of a class or module stay on one worker, in a `_Batch`. If much of
      a batch is left when another worker is idle, the schedule splits it.
    - The number of ranks alive at once is limited.
    - A device or a named resource belongs to one test at a time.
    - Serial tests run last, each alone.

The states of an item:

    waiting     `add` put it into a batch or the list of serial tests; counted by `waiting`
    running     `take` gave it to a worker; it holds its ranks, devices and resources (`_Held`)
    done        `done` released what it held
    waiting     `put_back` returned it: the worker ended, or did not start it after a failure
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from harness.runner.selection.planned_test import PlannedTest

# The expected duration of a test without history: for the test, and for each of its ranks.
_UNKNOWN_S = 0.005
_UNKNOWN_RANK_S = 0.1
# A worker gets several short tests at a time, up to this duration and number. Each request costs
# half a millisecond, more than many tests without ranks take.
_PORTION_S = 0.05
_MAX_PORTION = 64
# The schedule splits a batch only if this much of it is left, because the second worker has to set
# up the fixture too.
_WORTH_SHARING_S = 1.0


@dataclass(frozen=True)
class Item:
    """One attempt at one test.

    Attributes:
        number: its place in the plan; the report lists results in this order.
        test: the test.
        round: the number of the repetition, from 1.
        attempt: the number of the attempt, from 1.
        devices: the devices that it may use.
    """

    number: int
    test: PlannedTest
    round: int = 1
    attempt: int = 1
    devices: tuple[str, ...] = ()

    def next_attempt(self) -> Item:
        """Return the item for a retry."""
        return replace(self, attempt=self.attempt + 1, devices=())


@dataclass
class _Batch:
    """Tests that stay on one worker because they share a fixture, or a single other test.

    Attributes:
        items: the tests that wait, in order.
        cost_s: the expected duration of all of them times their ranks.
        fixture: the class or module with the fixture; empty if there is none.
        worker: the worker that has set up the fixture; None if none has.
    """

    items: list[Item]
    cost_s: float
    fixture: str = ""
    worker: int | None = None


@dataclass
class _Held:
    """The running tests with their workers, and what they hold."""

    items: dict[Item, int] = field(default_factory=dict)

    def of(self, worker: int) -> list[Item]:
        return [item for item, holder in self.items.items() if holder == worker]

    @property
    def ranks(self) -> int:
        return sum(item.test.ranks for item in self.items)

    @property
    def resources(self) -> frozenset[str]:
        return frozenset().union(*(item.test.resources for item in self.items))

    @property
    def devices(self) -> set[str]:
        return {device for item in self.items for device in item.devices}


class Schedule:
    """The tests that wait and those that run.

    Args:
        durations: test key to expected seconds.
        workers: the number of workers.
        max_ranks: how many ranks may be alive at once; a test that needs more runs while no other
            test has ranks.
        devices: the devices that tests may use.
        in_order: start the tests in the given order instead of the long ones first.
    """

    def __init__(
        self,
        durations: Mapping[str, float],
        workers: int,
        max_ranks: int,
        devices: Sequence[str] = (),
        in_order: bool = False,
    ) -> None:
        self._durations = durations
        # With one worker the order makes no difference to the total time, and users expect the
        # order of the file.
        self._in_order = in_order or workers <= 1
        self._max_ranks = max_ranks
        self._devices = tuple(devices)
        self._batches: list[_Batch] = []
        self._waiting = 0
        self._serial: list[Item] = []
        self._held = _Held()
        self._learned: dict[str, tuple[int, float]] = {}

    def add(self, items: Iterable[Item]) -> None:
        """Add tests that wait."""
        by_fixture: dict[str, list[Item]] = {}
        for item in items:
            self._waiting += 1
            if item.test.is_serial:
                self._serial.append(item)
            elif item.test.fixture:
                by_fixture.setdefault(item.test.fixture, []).append(item)
            else:
                self._batches.append(_Batch([item], self._cost(item)))
        for fixture, shared in by_fixture.items():
            self._add_to_fixture(fixture, shared)
        # Sorted once for each round, so that `take` only walks the list. Ties keep the order of the
        # plan, so the same run always makes the same choices.
        self._batches.sort(key=self._sort_key)

    def _sort_key(self, batch: _Batch) -> tuple[float, int]:
        return 0.0 if self._in_order else -batch.cost_s, batch.items[0].number

    def _add_to_fixture(self, fixture: str, items: list[Item]) -> None:
        cost_s = sum(map(self._cost, items))
        for batch in self._batches:
            if batch.fixture == fixture:
                batch.items += items
                batch.cost_s += cost_s
                return
        self._batches.append(_Batch(items, cost_s, fixture))

    def take(self, worker: int) -> list[Item]:
        """Return the tests that an idle worker runs now; empty if there are none, or none yet."""
        # A worker gets tests only when it has none, because the schedule may know more by then.
        # Nothing may start beside a serial test.
        if self._held.of(worker) or any(item.test.is_serial for item in self._held.items):
            return []
        taken = self._take_from_batches(worker)
        # A serial test starts only when all others have finished, since it must run alone.
        if not taken and not self._batches and not self._held.items:
            taken = [self._with_devices(self._serial.pop(0))] if self._serial else []
        for item in taken:
            self._held.items[item] = worker
        self._waiting -= len(taken)
        return taken

    def _take_from_batches(self, worker: int) -> list[Item]:
        for batch in self._candidates(worker):
            is_others = batch.worker not in {None, worker}
            # Take the second half of another worker's batch: it is about to run the first half.
            first = len(batch.items) // 2 if is_others else 0
            # Try the next batch instead of waiting: a test with many ranks must not keep short
            # tests without ranks from running meanwhile.
            if not self._fits(batch.items[first].test):
                continue
            if is_others:
                batch = self._split(batch, first)
            if batch.fixture:
                batch.worker = worker
            return self._portion(batch)
        return []

    def _candidates(self, worker: int) -> Iterator[_Batch]:
        """Yield the batches that a worker may take from: its own, free ones, other workers'."""
        shared = [batch for batch in self._batches if batch.worker is not None]
        yield from (batch for batch in shared if batch.worker == worker)
        yield from (batch for batch in self._batches if batch.worker is None)
        for batch in shared:
            if batch.worker != worker and len(batch.items) > 1 and batch.cost_s > _WORTH_SHARING_S:
                yield batch

    def _split(self, batch: _Batch, first: int) -> _Batch:
        """Move the items from `first` on into a new batch, for another worker."""
        moved, batch.items = batch.items[first:], batch.items[:first]
        batch.cost_s = sum(map(self._cost, batch.items))
        new = _Batch(moved, sum(map(self._cost, moved)), batch.fixture)
        self._batches.append(new)
        return new

    def _portion(self, first: _Batch) -> list[Item]:
        """Take one item of the batch; of short tests without ranks, several."""
        taken = [self._pop(first)]
        # Tests with ranks take far longer than a request, and hold ranks or devices that they
        # should not hold while another test of the portion runs.
        if not taken[0].test.is_plain:
            return taken
        time_s = self._time(taken[0])
        # Add no test after one of unknown duration: it might be the long one.
        while len(taken) < _MAX_PORTION and self._is_known(taken[-1]):
            following = first if first.items else self._next_plain(first)
            if following is None or not following.items[0].test.is_plain:
                break
            time_s += self._time(following.items[0])
            if time_s > _PORTION_S:
                break
            taken.append(self._pop(following))
        return taken

    def _next_plain(self, after: _Batch) -> _Batch | None:
        if after.fixture or not self._batches:
            return None
        following = self._batches[0]
        return following if not following.fixture else None

    def _pop(self, batch: _Batch) -> Item:
        item = batch.items.pop(0)
        batch.cost_s -= self._cost(item)
        if not batch.items:
            self._batches.remove(batch)
        return self._with_devices(item)

    def _fits(self, test: PlannedTest) -> bool:
        """Whether the test may run beside the tests that run now."""
        ranks = self._held.ranks
        # A test with more ranks than the limit runs when no other test has ranks; otherwise it
        # would never run.
        enough_ranks = not test.ranks or not ranks or ranks + test.ranks <= self._max_ranks
        free_devices = len(self._devices) - len(self._held.devices)
        enough_devices = free_devices >= min(test.devices, len(self._devices))
        return enough_ranks and enough_devices and not test.resources & self._held.resources

    def _with_devices(self, item: Item) -> Item:
        """Return the item with free devices, if it uses any and the machine has as many.

        A test that needs more devices than there are gets none, and its decorator skips it.
        """
        count = item.test.devices
        if not count or count > len(self._devices):
            return item
        held = self._held.devices
        free = [device for device in self._devices if device not in held]
        return replace(item, devices=tuple(free[:count]))

    def done(self, item: Item, seconds: float) -> None:
        """Release what a test held, which has ended after so many seconds."""
        del self._held.items[item]
        # Without history, the durations of a class's first tests predict those of the others.
        count, total_s = self._learned.get(item.test.owner, (0, 0.0))
        self._learned[item.test.owner] = (count + 1, total_s + seconds)

    def put_back(self, item: Item) -> None:
        """Let a test wait again that a worker took but did not start."""
        del self._held.items[item]
        self.add([replace(item, devices=())])

    def release_fixtures(self, worker: int) -> None:
        """Let any worker continue the batches of a worker that ends."""
        for batch in self._batches:
            if batch.worker == worker:
                batch.worker = None

    def clear(self) -> None:
        """Drop all tests that wait."""
        self._batches, self._serial, self._waiting = [], [], 0

    @property
    def waiting(self) -> int:
        """The number of tests that no worker has taken."""
        return self._waiting

    @property
    def running(self) -> int:
        """The number of tests that workers have taken and not finished."""
        return len(self._held.items)

    @property
    def only_serial_left(self) -> bool:
        return not self._batches

    def _is_known(self, item: Item) -> bool:
        return item.test.key in self._durations or item.test.owner in self._learned

    def _time(self, item: Item) -> float:
        """Return the expected seconds: the test's history, its class's average, or a guess."""
        recorded = self._durations.get(item.test.key)
        if recorded is not None:
            return recorded
        count, total_s = self._learned.get(item.test.owner, (0, 0.0))
        return total_s / count if count else _UNKNOWN_S + item.test.ranks * _UNKNOWN_RANK_S

    def _cost(self, item: Item) -> float:
        return max(1, item.test.ranks) * self._durations.get(
            item.test.key, _UNKNOWN_S + item.test.ranks * _UNKNOWN_RANK_S
        )
