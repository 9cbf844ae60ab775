"""What has run so far, kept where it outlives this process: torchrun may start the world again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from harness.runner.results import RunResult, Status, TestRecord, Trouble, record_from_data
from harness.runner.schedule import Item


class Notes(Protocol):
    """Texts under names, which outlive the process that writes them."""

    def put(self, name: str, text: str) -> None: ...

    def get(self, name: str) -> str | None: ...


_COUNT, _RUNNING, _FINISHED = "count", "running", "finished"


def code_of_finished_run(notes: Notes) -> int | None:
    """The exit code of a run that came to its end before the world was started again, if it did."""
    code = notes.get(_FINISHED)
    return None if code is None else int(code)


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
        self._count = int(self._notes.get(_COUNT) or "0")
        entries = [json.loads(self._notes.get(f"entry {n}") or "{}") for n in range(self._count)]
        found = [((e["at"][0], e["at"][1]), record_from_data(e["record"])) for e in entries if e]
        running = json.loads(self._notes.get(_RUNNING) or "null")
        known = {at for at, record in found if not record.is_fixture}
        if running is not None and tuple(running["at"]) not in known:
            found.append((tuple(running["at"]), _cut_short(running)))
        return Resumed(found)


def _cut_short(running: dict[str, Any]) -> TestRecord:
    text = (
        "the world was started again while this test ran, and rank 0 did not live to tell why: see "
        "what torchrun has printed on every host"
    )
    trouble = Trouble("ERROR", running["test"], text)
    return TestRecord(running["test"], Status.FAILED, troubles=[trouble])


class Resumed:
    """What has run before the world was started again.

    Args:
        entries: round and number of a test, and a record of it or of a fixture of it.
    """

    def __init__(self, entries: list[tuple[tuple[int, int], TestRecord]]) -> None:
        self._entries = entries
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
