"""Decides which test runs next, and on which worker: pure bookkeeping, no processes, no clock.

Long tests first, so that none is left to run alone at the end; tests that share a fixture stay with
one worker; ranks alive at once are bounded; devices and named resources are lent to one test at a
time; serial tests come last and alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from harness.runner.selection.planned_test import PlannedTest

# What a test is thought to take of which nothing is known: its own work, and per rank.
_UNKNOWN_S = 0.005
_UNKNOWN_RANK_S = 0.1
# A worker is given so much at a time of tests that are shorter: asking costs half a millisecond.
_PORTION_S = 0.05
_MAX_PORTION = 64
# Another worker takes tests from under a shared fixture only if that much of them is left: it has
# to set up a fixture of its own.
_WORTH_SHARING_S = 1.0


@dataclass(frozen=True)
class Item:
    """One test to be run once.

    Attributes:
        number: its place in the plan; results are reported in this order.
        test: the test.
        round: which repetition it is, from 1.
        attempt: which attempt it is, from 1.
        devices: the devices that have been lent to it.
    """

    number: int
    test: PlannedTest
    round: int = 1
    attempt: int = 1
    devices: tuple[str, ...] = ()

    def again(self) -> Item:
        """The next attempt."""
        return replace(self, attempt=self.attempt + 1, devices=())


@dataclass
class _Batch:
    """Tests that are best run by one worker: those that share a fixture, or a single one."""

    items: list[Item]
    cost_s: float
    fixture: str = ""
    worker: int | None = None


@dataclass
class _Held:
    """What the tests that run now hold."""

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
    """The tests that are still to be run.

    Args:
        durations: a test's key to what it is expected to take, in seconds.
        workers: how many workers there are.
        max_ranks: how many ranks may be alive at once; a test that needs more runs without others
            that have ranks.
        devices: what may be lent.
        in_order: take the tests as they come rather than the long ones first.
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
        self._in_order = in_order or workers <= 1
        self._max_ranks = max_ranks
        self._devices = tuple(devices)
        self._batches: list[_Batch] = []
        self._waiting = 0
        self._serial: list[Item] = []
        self._held = _Held()
        self._learned: dict[str, tuple[int, float]] = {}

    def add(self, items: Iterable[Item]) -> None:
        """More tests to run."""
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
        self._batches.sort(key=self._place)

    def _place(self, batch: _Batch) -> tuple[float, int]:
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
        """What a worker that has nothing to do shall run; nothing if there is none, or none yet."""
        if self._held.of(worker) or any(item.test.is_serial for item in self._held.items):
            return []
        taken = self._take_from_batches(worker)
        if not taken and not self._batches and not self._held.items:
            taken = [self._lend(self._serial.pop(0))] if self._serial else []
        for item in taken:
            self._held.items[item] = worker
        self._waiting -= len(taken)
        return taken

    def _take_from_batches(self, worker: int) -> list[Item]:
        for batch in self._candidates(worker):
            is_others = batch.worker not in {None, worker}
            first = len(batch.items) // 2 if is_others else 0
            if not self._fits(batch.items[first].test):
                continue
            if is_others:
                batch = self._split(batch, first)
            if batch.fixture:
                batch.worker = worker
            return self._portion(batch)
        return []

    def _candidates(self, worker: int) -> Iterator[_Batch]:
        """The batches a worker may take from: first its own, last those of others."""
        shared = [batch for batch in self._batches if batch.worker is not None]
        yield from (batch for batch in shared if batch.worker == worker)
        yield from (batch for batch in self._batches if batch.worker is None)
        for batch in shared:
            if batch.worker != worker and len(batch.items) > 1 and batch.cost_s > _WORTH_SHARING_S:
                yield batch

    def _split(self, batch: _Batch, first: int) -> _Batch:
        """What is left under a fixture from that item on, for another worker."""
        moved, batch.items = batch.items[first:], batch.items[:first]
        batch.cost_s = sum(map(self._cost, batch.items))
        new = _Batch(moved, sum(map(self._cost, moved)), batch.fixture)
        self._batches.append(new)
        return new

    def _portion(self, first: _Batch) -> list[Item]:
        """One item of the batch; of short plain tests, as many as are worth asking for at once."""
        taken = [self._pop(first)]
        if not taken[0].test.is_plain:
            return taken
        time_s = self._time(taken[0])
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
        return self._lend(item)

    def _fits(self, test: PlannedTest) -> bool:
        """Whether it may run beside those that run now."""
        ranks = self._held.ranks
        enough_ranks = not test.ranks or not ranks or ranks + test.ranks <= self._max_ranks
        free_devices = len(self._devices) - len(self._held.devices)
        enough_devices = free_devices >= min(test.devices, len(self._devices))
        return enough_ranks and enough_devices and not test.resources & self._held.resources

    def _lend(self, item: Item) -> Item:
        """The item with devices, if it uses any and the machine has as many."""
        count = item.test.devices
        if not count or count > len(self._devices):
            return item
        held = self._held.devices
        free = [device for device in self._devices if device not in held]
        return replace(item, devices=tuple(free[:count]))

    def done(self, item: Item, seconds: float) -> None:
        """A test has been run: what it held is free."""
        del self._held.items[item]
        count, total_s = self._learned.get(item.test.owner, (0, 0.0))
        self._learned[item.test.owner] = (count + 1, total_s + seconds)

    def give_back(self, item: Item) -> None:
        """A test was handed out but has not been begun."""
        del self._held.items[item]
        self.add([replace(item, devices=())])

    def leave_fixtures(self, worker: int) -> None:
        """The worker is no more: another one goes on with what it had."""
        for batch in self._batches:
            if batch.worker == worker:
                batch.worker = None

    def clear(self) -> None:
        """Run nothing more."""
        self._batches, self._serial, self._waiting = [], [], 0

    @property
    def waiting(self) -> int:
        """How many tests have not been handed out."""
        return self._waiting

    @property
    def running(self) -> int:
        """How many tests have been handed out and are not done."""
        return len(self._held.items)

    @property
    def only_serial_left(self) -> bool:
        return not self._batches

    def _is_known(self, item: Item) -> bool:
        return item.test.key in self._durations or item.test.owner in self._learned

    def _time(self, item: Item) -> float:
        """Seconds that a test is expected to take: its own record, its class's, a guess."""
        recorded = self._durations.get(item.test.key)
        if recorded is not None:
            return recorded
        count, total_s = self._learned.get(item.test.owner, (0, 0.0))
        return total_s / count if count else _UNKNOWN_S + item.test.ranks * _UNKNOWN_RANK_S

    def _cost(self, item: Item) -> float:
        return max(1, item.test.ranks) * self._durations.get(
            item.test.key, _UNKNOWN_S + item.test.ranks * _UNKNOWN_RANK_S
        )
