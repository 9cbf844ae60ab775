"""What has run so far, kept where it outlives this process: torchrun may start the world again."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from harness.model.settings import MAX_COUNT
from harness.runner.results import RunResult, Status, TestRecord, Trouble, record_from_data
from harness.runner.shapes import check_fields
from harness.runner.workers.schedule import Item


class Notes(Protocol):
    """Texts under names, which outlive the process that writes them."""

    def put(self, name: str, text: str) -> None: ...

    def get(self, name: str) -> str | None: ...


_COUNT, _RUNNING, _FINISHED = "count", "running", "finished"


def code_of_finished_run(notes: Notes) -> int | None:
    """The exit code of a run that came to its end before the world was started again, if it did."""
    code = notes.get(_FINISHED)
    return None if code is None else _number(code)


class Journal:
    """The records of a run as they come.

    Args:
        notes: where it is kept.
    """

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._count = 0

    def begin(self, item: Item) -> None:
        """A test begins."""
        running = {"at": [item.round, item.number], "test": item.test.test_id}
        self._notes.put(_RUNNING, json.dumps(running))

    def add(self, item: Item, record: TestRecord) -> None:
        """A test, or a fixture that it needed, is done."""
        entry = {"at": [item.round, item.number], "record": record.to_data()}
        self._notes.put(f"entry {self._count}", json.dumps(entry, default=repr))
        self._count += 1
        self._notes.put(_COUNT, str(self._count))

    def finish(self, code: int) -> None:
        """All tests are done, and reported. A failure has torchrun start the world again."""
        self._notes.put(_FINISHED, str(code))

    def read(self) -> Resumed:
        """What is known of the run from before this process; what comes now is added to it."""
        self._count = min(_number(self._notes.get(_COUNT) or "0") or 0, MAX_COUNT)
        texts = [self._notes.get(f"entry {n}") for n in range(self._count)]
        read = [_entry(text, "record", TestRecord) for text in texts]
        found = [(at, record_from_data(data)) for at, data in filter(None, read)]
        running = _entry(self._notes.get(_RUNNING), "test", str)
        known = {at for at, record in found if not record.is_fixture}
        if running is not None and running[0] not in known:
            found.append((running[0], _cut_short(running[1])))
        return Resumed(found, damaged=read.count(None))


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch("[0-9]{1,9}", text) else None


def _entry(text: str | None, name: str, wanted: type) -> tuple[tuple[int, int], Any] | None:
    """A place and what is known of it; None if the text is none or damaged, so that a test runs."""
    fields = {"at": tuple[int, int], name: wanted}
    try:
        entry = json.loads(text or "null")
        check_fields(entry, fields, "the entry", required=list(fields))
    except (ValueError, RecursionError):
        return None
    return tuple(entry["at"]), entry[name]


def _cut_short(test: str) -> TestRecord:
    text = (
        "the world was started again while this test ran, and rank 0 did not live to tell why: see "
        "what torchrun has printed on every host"
    )
    return TestRecord(test, Status.FAILED, troubles=[Trouble("ERROR", test, text)])


class Resumed:
    """What has run before the world was started again.

    Args:
        entries: round and number of a test, and a record of it or of a fixture of it.
        damaged: how many more there were, which could not be read.
    """

    def __init__(self, entries: list[tuple[tuple[int, int], TestRecord]], damaged: int = 0) -> None:
        self._entries = entries
        self.damaged = damaged
        self.done = 0

    def settle(self, item: Item, take: Callable[[Item, TestRecord], None]) -> bool:
        """Have the records of a test taken, if there are some; whether it is done."""
        at = (item.round, item.number)
        records = [record for place, record in self._entries if place == at]
        is_done = any(record.test_id == item.test.test_id for record in records)
        for record in records if is_done else ():
            take(item, record)
        self.done += is_done
        return is_done

    def without(self, run: RunResult) -> RunResult:
        """The run with only those records that are not from before."""
        old = {id(record) for _, record in self._entries}
        return replace(run, records=[record for record in run.records if id(record) not in old])


@dataclass(frozen=True)
class Given:
    """A given world.

    Attributes:
        told: who is in it, for the reader.
        why_lost: says why there can be no more tests; empty if there can.
        journal: what outlives this process; None where torchrun would not start it again.
        may_be_restarted: whether it would now.
    """

    told: str
    why_lost: Callable[[], str]
    journal: Journal | None
    may_be_restarted: bool

    def resumed(self) -> Resumed:
        """What has run before torchrun started the world again."""
        return Resumed([]) if self.journal is None else self.journal.read()

    def begin(self, item: Item) -> None:
        """A test begins."""
        if self.journal is not None:
            self.journal.begin(item)

    def add(self, item: Item, record: TestRecord) -> None:
        """A test, or a fixture that it needed, is done."""
        if self.journal is not None:
            self.journal.add(item, record)

    def finish(self, code: int) -> None:
        """All tests are done, and the run ends with this code."""
        if self.journal is not None:
            self.journal.finish(code)
