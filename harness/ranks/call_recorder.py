"""Record what a rank communicates, and watch the tensors of operations in flight.

One `CallRecorder` per rank and test. `harness/ranks/c10d_calls.py` feeds it in processes,
`harness/ranks/threads/groups.py` in threads.

The life of an operation:

    called      record()                    the rank is about to issue it
    issued      follow()                    torch has returned its Work; if the operation is
                                            asynchronous, its tensors are watched from now on
    waited      waited()                    Work.wait() or the like has returned or raised
    abandoned   the Work was collected      nobody can wait for it any more: a fault, if the
                                            operation is asynchronous

An operation whose Work never reaches Python (DDP's reducer, functional collectives) is recorded but
not followed: torch waits for it.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from types import FrameType
from typing import Any

from harness.diagnosis.calls import detail_text
from harness.diagnosis.recorder import MAX_COLLECTIVES
from harness.diagnosis.sources import is_foreign
from harness.model.communication import (
    Call,
    CommunicationRecord,
    LocalFault,
    group_key,
    name_of_key,
)
from harness.model.evidence import Collective, Group, Snapshot
from harness.model.outcome import Place
from harness.ranks.regions import Region

# A test with more operations is audited up to this one. A record of as many takes about 100 kB,
# since a loop's calls are equal.
MAX_OPERATIONS = 20_000
# Of one test; the first ones tell enough.
_MAX_FAULTS = 50

# torch's flight recorder does not have these (torch 2.13).
_UNRECORDED = frozenset({"monitored_barrier", "new_group"})

_RUN_AS_THEMSELVES = frozenset({"all_reduce", "broadcast", "gather", "reduce", "scatter"})

_is_foreign = lru_cache(maxsize=4096)(is_foreign)


# By the id of the Work that they follow.
_recorders: dict[int, CallRecorder] = {}


@dataclass(slots=True, eq=False)
class Flight:
    """An operation that nobody has waited for yet.

    Attributes:
        position: its position in the record.
        is_async: whether the test has to wait for it; else torch's own function does.
        regions: the memory that it uses.
        is_reported: whether a fault was found already.
    """

    position: int
    is_async: bool
    regions: tuple[Region, ...]
    is_reported: bool = False


class CallRecorder:
    """What one rank communicates in one test. Thread-safe.

    Attributes:
        in_flight: the number of asynchronous operations in flight; while there are any, tensors
            are watched.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._indices: dict[Any, int] = {}
        self._calls: list[Call] = []
        self._order: list[int] = []
        self._threads: list[int] = []
        self._failed: set[int] = set()
        self._groups: dict[str, Group] = {}
        self._keys: dict[tuple[str, tuple[int, ...]], str] = {}
        self._key_of_name: dict[str, str] = {}
        self._faults: dict[LocalFault, None] = {}
        self._flights: dict[int, tuple[Flight, weakref.ref[Any]]] = {}
        self.in_flight = 0
        self._worlds: set[tuple[int, int]] = set()
        self._fresh = threading.local()
        self._lost = 0
        self._exempt = 0
        self._was_exempt = False

    # Calls

    def record(
        self, key: Any, call: Any, regions: Iterable[Region] = (), is_async: bool = False
    ) -> int:
        """Record an operation that the calling thread is about to issue; return its position.

        Args:
            key: equal for equal calls; hashable.
            call: a function that returns the `Call`; used for the first of equal calls only.
            regions: the memory that it uses until somebody waits for it.
            is_async: whether the caller has to wait for it.
        """
        with self._lock:
            if self._exempt:
                return -1
            if len(self._order) >= MAX_OPERATIONS:
                self._lost += 1
                return -1
            index = self._indices.get(key)
            if index is None:
                index = self._indices[key] = len(self._calls)
                self._calls.append(call())
            position = len(self._order)
            self._order.append(index)
            self._threads.append(threading.get_ident())
        self._fresh_flights().append(Flight(position, is_async, tuple(regions)))
        return position

    def raised(self, position: int) -> None:
        """Record that an operation raised an exception."""
        self._fresh_flights().clear()
        with self._lock:
            if position >= 0:
                self._failed.add(position)

    def key_of_group(self, name: str, members: tuple[int, ...], description: str) -> str:
        """Return the key of a group, and record the group.

        torch uses a name again once its group has been destroyed, perhaps for other members.

        Args:
            name: torch's name for it.
            members: the ranks in the world, by their rank in the group.
            description: what torch or the user calls it.
        """
        key = self._keys.get((name, members))
        if key is None:
            key = group_key(name, members)
            self._keys[name, members] = key
            self._groups[key] = Group(members, description)
            self._key_of_name[name] = key
        return key

    def in_world(self, default_group: Any) -> None:
        """Record the default group that the rank has now."""
        if default_group is not None:
            self._worlds.add((default_group.rank(), default_group.size()))

    def last_key(self, name: str) -> str | None:
        """Return the key of the last group that had this name; None if there was none."""
        return self._key_of_name.get(name)

    def fault(self, problem: str, position: int = -1, where: Place | None = None) -> None:
        """Record a fault that this rank has found."""
        with self._lock:
            if not self._exempt and len(self._faults) < _MAX_FAULTS:
                self._faults[LocalFault(problem, position, where)] = None

    def with_details(self, snapshot: Snapshot) -> Snapshot:
        """Return the snapshot with the roots and reductions of its collectives.

        The snapshot is from torch's flight recorder, which has neither (torch 2.13). Both have the
        collectives of a group in the order of the calls. Where they could be out of step (an
        operation failed, or the recorder has dropped the first ones), nothing is added: wrong
        details would look like a mismatch between ranks.
        """
        with self._lock:
            if self._was_exempt or self._failed or len(snapshot.collectives) >= MAX_COLLECTIVES:
                return snapshot
            calls = [self._calls[index] for index in self._order]
        mine: dict[str, list[Call]] = {}
        for call in calls:
            if not call.is_p2p and call.op not in _UNRECORDED:
                mine.setdefault(name_of_key(call.group), []).append(call)
        theirs: dict[str, list[Collective]] = {}
        for collective in snapshot.collectives:
            theirs.setdefault(collective.group, []).append(collective)
        in_step = {name for name, seen in theirs.items() if _are_in_step(seen, mine.get(name, []))}
        waiting = {name: iter(mine[name]) for name in in_step}
        return replace(
            snapshot,
            collectives=tuple(
                replace(each, detail=detail_text(next(waiting[each.group])))
                if each.group in in_step
                else each
                for each in snapshot.collectives
            ),
        )

    # Exempt parts of a test

    def exempt(self, begins: bool) -> None:
        """Begin or end a part of the test whose ranks diverge on purpose."""
        with self._lock:
            self._exempt += 1 if begins else -1
            self._was_exempt = True

    # Operations in flight

    def _fresh_flights(self) -> list[Flight]:
        """Return the operations of the calling thread whose Work has not reached Python yet."""
        flights: list[Flight] | None = getattr(self._fresh, "flights", None)
        if flights is None:
            flights = self._fresh.flights = []
        return flights

    def forget_fresh(self) -> None:
        """Forget the operations whose Work has not reached Python: torch waits for them."""
        self._fresh_flights().clear()

    def follow(self, work: Any) -> None:
        """Follow the Work of the operations that the calling thread has just issued."""
        flights = self._fresh_flights()
        if not flights:
            return
        key = id(work)
        # One Work may stand for several operations (coalescing); they end together.
        first = flights[0]
        if len(flights) > 1:
            first.regions = tuple(region for flight in flights for region in flight.regions)
        flights.clear()
        with self._lock:
            self.in_flight += first.is_async
            _recorders[key] = self
            self._flights[key] = (first, weakref.ref(work, lambda _: self._collected(key)))

    def waited(self, work: Any) -> int:
        """Record that somebody waits for a Work; return its position, -1 if it is not followed."""
        with self._lock:
            flight = self._take(id(work))
            return -1 if flight is None else flight.position

    def _collected(self, key: int) -> None:
        # Python collects at any time, also while this thread holds the (reentrant) lock.
        with self._lock:
            flight = self._take(key)
            if flight is not None:
                self._report_unwaited(flight)

    def _take(self, key: int) -> Flight | None:
        flight, _ = self._flights.pop(key, (None, None))
        if flight is not None:
            _recorders.pop(key, None)
            self.in_flight -= flight.is_async
        return flight

    def _report_unwaited(self, flight: Flight) -> None:
        if flight.is_async:
            self.fault("nobody waits for its Work", flight.position)

    def touched(self, region: Region, is_write: bool, op: str) -> None:
        """Check an access to memory by the calling thread against the operations in flight.

        Args:
            region: the memory.
            is_write: whether it is written.
            op: what accesses it, for the report.
        """
        with self._lock:
            for flight, _ in list(self._flights.values()):
                if flight.is_reported:
                    continue
                for used in flight.regions:
                    if used.overlaps(region) and (is_write or not used.may_be_read):
                        flight.is_reported = True
                        verb = "writes to" if is_write else "reads"
                        self.fault(
                            f"{op} {verb} its tensor before wait()",
                            flight.position,
                            user_place(sys._getframe(1)),
                        )
                        break

    # The end of the test

    def finish(self) -> CommunicationRecord:
        """Stop following work, and return the record of the test."""
        with self._lock:
            for key in list(self._flights):
                self._collected(key)
            missing = ""
            if self._lost:
                missing = (
                    f"it called {self._lost + len(self._order)} operations, of which the audit "
                    f"keeps the first {len(self._order)}"
                )
            return CommunicationRecord(
                calls=tuple(self._calls),
                order=tuple(self._order),
                threads=tuple(self._threads) if len(set(self._threads)) > 1 else (),
                failed=tuple(sorted(self._failed)),
                groups=dict(self._groups),
                faults=tuple(self._faults),
                missing=missing,
                worlds=tuple(sorted(self._worlds)),
            )


def recorder_of_work(work: Any) -> CallRecorder | None:
    """Return the recorder that follows a Work; None if there is none (any more)."""
    return _recorders.get(id(work))


def _are_in_step(recorded: list[Collective], calls: list[Call]) -> bool:
    """Whether the flight recorder's collectives of a group are these calls, but for the last ones.

    A backend may run an operation as another one (gloo's reduce_scatter is an all_reduce), so only
    operations that it runs as themselves tell.
    """
    return len(recorded) <= len(calls) and all(
        collective.op == call.op
        for collective, call in zip(recorded, calls, strict=False)
        if call.op in _RUN_AS_THEMSELVES
    )


def user_place(frame: FrameType | None) -> Place | None:
    """Return the innermost line of the user's code in a stack."""
    while frame is not None:
        code = frame.f_code
        if not _is_foreign(code.co_filename):
            return Place(code.co_filename, frame.f_lineno, code.co_name, code.co_firstlineno)
        frame = frame.f_back
    return None
