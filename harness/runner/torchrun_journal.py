"""Keep the results of a run in torchrun's store, because torchrun may restart the world.

The journal has these entries: `entry N` for the Nth record, `count` for their number, `running` for
the test that runs now, and `finished` with the exit code. Each is written before the next step, so
a restarted run knows which tests have a result. A test that was running and has none was cut short
by the restart. It gets an error and is not repeated: it may have caused the restart.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import msgspec

from harness.model.settings import MAX_COUNT
from harness.runner.results import RunResult, Status, TestRecord, Trouble, with_outcome
from harness.runner.workers.schedule import Item


class Notes(Protocol):
    """A key-value store of texts that outlives the process which writes them."""

    def put(self, name: str, text: str) -> None: ...

    def get(self, name: str) -> str | None: ...


_COUNT, _RUNNING, _FINISHED = "count", "running", "finished"


class _Running(msgspec.Struct):
    """The test that runs now: its round and number, and its id."""

    at: tuple[int, int]
    test: str


class _Entry(msgspec.Struct):
    """A record of the test with this round and number, or of a fixture that it needed."""

    at: tuple[int, int]
    record: TestRecord


_Stored = TypeVar("_Stored", _Running, _Entry)


def code_of_finished_run(notes: Notes) -> int | None:
    """Return the exit code of a run that ended before the restart; None if it did not end."""
    code = notes.get(_FINISHED)
    return None if code is None else _number(code)


class Journal:
    """Stores the records of a run as they arrive.

    Args:
        notes: the store.
    """

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._count = 0

    def begin(self, item: Item) -> None:
        """Store that a test begins."""
        running = {"at": [item.round, item.number], "test": item.test.test_id}
        self._notes.put(_RUNNING, json.dumps(running))

    def add(self, item: Item, record: TestRecord) -> None:
        """Store the record of a test, or of a fixture that it needed."""
        entry = {"at": [item.round, item.number], "record": record.to_data()}
        # The entry before the count: a reader that sees the count also finds the entries.
        self._notes.put(f"entry {self._count}", json.dumps(entry, default=repr))
        self._count += 1
        self._notes.put(_COUNT, str(self._count))

    def finish(self, code: int) -> None:
        """Store the exit code, once all tests are reported; torchrun may still restart."""
        self._notes.put(_FINISHED, str(code))

    def read(self) -> Resumed:
        """Return the results from before this process; `add` continues after them."""
        self._count = min(_number(self._notes.get(_COUNT) or "0") or 0, MAX_COUNT)
        texts = [self._notes.get(f"entry {n}") for n in range(self._count)]
        read = [_read(text, _Entry) for text in texts]
        found = [(entry.at, with_outcome(entry.record)) for entry in read if entry is not None]
        running = _read(self._notes.get(_RUNNING), _Running)
        known = {at for at, record in found if not record.is_fixture}
        if running is not None and running.at not in known:
            found.append((running.at, _interrupted_record(running.test)))
        return Resumed(found, damaged=read.count(None))


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch("[0-9]{1,9}", text) else None


def _read(text: str | None, kind: type[_Stored]) -> _Stored | None:
    """Return what is stored; None if it is missing or damaged, so that the test runs."""
    try:
        # json, unlike msgspec, reads the lone surrogates that a test may have printed.
        return msgspec.convert(json.loads(text or "null"), kind)
    except (ValueError, RecursionError):
        return None


def _interrupted_record(test: str) -> TestRecord:
    text = (
        "torchrun restarted the world while this test ran, and rank 0 ended before it could report "
        "why: see torchrun's output on every host"
    )
    return TestRecord(test, Status.FAILED, troubles=[Trouble("ERROR", test, text)])


class Resumed:
    """The results from before torchrun restarted the world.

    Args:
        entries: round and number of a test, and the record of the test or of its fixture.
        damaged: how many further records could not be read.
    """

    def __init__(self, entries: list[tuple[tuple[int, int], TestRecord]], damaged: int = 0) -> None:
        self._entries = entries
        self.damaged = damaged
        self.done = 0

    def settle(self, item: Item, take: Callable[[Item, TestRecord], None]) -> bool:
        """Pass the records of a test to `take` if it ran before; return whether it did."""
        at = (item.round, item.number)
        records = [record for place, record in self._entries if place == at]
        is_done = any(record.test_id == item.test.test_id for record in records)
        for record in records if is_done else ():
            take(item, record)
        self.done += is_done
        return is_done

    def without(self, run: RunResult) -> RunResult:
        """Return the run without the records from before the restart."""
        old = {id(record) for _, record in self._entries}
        return replace(run, records=[record for record in run.records if id(record) not in old])


@dataclass(frozen=True)
class TorchrunRun:
    """What a run on torchrun's processes knows of torchrun.

    Attributes:
        description: a line about the ranks and hosts.
        why_lost: returns why no more tests can run; empty if they can.
        journal: the journal; None if torchrun does not restart the world.
        may_be_restarted: whether torchrun has a restart left.
    """

    description: str
    why_lost: Callable[[], str]
    journal: Journal | None
    may_be_restarted: bool

    def resumed(self) -> Resumed:
        """Return the results from before torchrun restarted the world."""
        return Resumed([]) if self.journal is None else self.journal.read()

    def begin(self, item: Item) -> None:
        """Store that a test begins."""
        if self.journal is not None:
            self.journal.begin(item)

    def add(self, item: Item, record: TestRecord) -> None:
        """Store the record of a test, or of a fixture that it needed."""
        if self.journal is not None:
            self.journal.add(item, record)

    def finish(self, code: int) -> None:
        """Store the exit code: all tests are done."""
        if self.journal is not None:
            self.journal.finish(code)
