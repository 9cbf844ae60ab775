"""What a run found out: a record for every test, and the sums that decide the exit code."""

from __future__ import annotations

import enum
import json
import re
import time
import unittest
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from harness.model import again, notes, timeline
from harness.model.clock import now
from harness.model.timeline import RankTrack
from harness.runner.options import EXIT_FAILED, EXIT_NOTHING_RAN, EXIT_PASSED


class Status(enum.Enum):
    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Trouble:
    """One failure or error of a test.

    Attributes:
        label: FAIL, ERROR or XPASS.
        title: the test, or the sub-test with its parameters.
        text: what to show.
    """

    label: str
    title: str
    text: str


@dataclass
class TestRecord:
    """One test (or fixture, or module that could not be imported) and what became of it.

    Attributes:
        test_id: the full name, as unittest has it.
        status: None while it runs.
        seconds: how long it took, set-up included.
        reason: why it was skipped; of one that passed, "expected failure" if it was one.
        troubles: its failures and errors.
        notes: what it remarked for the summary.
        started_s: when it began, on the clock of `harness.model.clock`.
        worker: the number of the worker that ran it, from 1; 0 for the runner's own process.
        stdout, stderr: the last of what its own process printed meanwhile; ranks have their own.
        ranks: what its ranks did, if it had any and somebody wants to know.
        earlier: what the earlier attempts came to, if it was tried again; they all failed.
    """

    __test__ = False  # not a test, whatever pytest thinks of the name

    test_id: str
    status: Status | None = None
    seconds: float = 0.0
    reason: str = ""
    troubles: list[Trouble] = field(default_factory=list)
    notes: list[notes.Note] = field(default_factory=list)
    started_s: float = 0.0
    worker: int = 0
    stdout: str = ""
    stderr: str = ""
    ranks: tuple[RankTrack, ...] = ()
    earlier: list[TestRecord] = field(default_factory=list)

    @property
    def is_flaky(self) -> bool:
        """Whether it failed first and then passed."""
        return self.status is Status.PASSED and bool(self.earlier)

    @property
    def why(self) -> str:
        """In a line, why it did not simply pass: the exception, or the reason of a skip."""
        if not self.troubles:
            return self.reason
        lines = self.troubles[0].text.splitlines()
        own = (line for line in lines if line and not line.startswith((" ", "Traceback")))
        return next(own, "")

    @property
    def is_fixture(self) -> bool:
        """Whether it is the set-up or tear-down of a class or module rather than a test."""
        return _FIXTURE.match(self.test_id) is not None

    def to_data(self) -> dict[str, Any]:
        """As data that JSON can carry; what is empty is left out."""
        data = {name: value for name in _FIELDS if (value := getattr(self, name))}
        for name, convert in _TO_DATA.items():
            if name in data:
                data[name] = convert(data[name])
        return data

    @property
    def owner(self) -> str:
        """The class (or module) that the test or fixture belongs to."""
        fixture = _FIXTURE.match(self.test_id)
        return fixture[1] if fixture else self.test_id.rpartition(".")[0]


def record_from_data(data: Mapping[str, Any]) -> TestRecord:
    """The inverse of `TestRecord.to_data`. Raises KeyError or TypeError on anything else."""
    converted = {name: _FROM_DATA[name](data[name]) for name in _FROM_DATA if name in data}
    return TestRecord(**{**data, **converted})


_FIELDS = tuple(field.name for field in fields(TestRecord))
_TO_DATA: Mapping[str, Callable[[Any], Any]] = {
    "status": lambda status: status.value,
    "troubles": lambda troubles: [asdict(trouble) for trouble in troubles],
    "notes": lambda found: [asdict(note) for note in found],
    "ranks": lambda ranks: [track.to_data() for track in ranks],
    "earlier": lambda records: [record.to_data() for record in records],
}
_FROM_DATA: Mapping[str, Callable[[Any], Any]] = {
    "status": Status,
    "troubles": lambda troubles: [Trouble(**trouble) for trouble in troubles],
    "notes": lambda found: [notes.Note(**note) for note in found],
    "ranks": lambda ranks: tuple(timeline.track_from_data(track) for track in ranks),
    "earlier": lambda records: [record_from_data(record) for record in records],
}


# How unittest calls a class or module fixture that failed or skipped.
_FIXTURE = re.compile(r"(?:setUp|tearDown)(?:Class|Module) \((.+)\)$")


@dataclass
class RunResult:
    """All records of a run.

    Attributes:
        records: in the order of the plan, whatever the order in which the tests ended.
        not_run: how many tests were planned and not run.
        interrupted: whether somebody stopped it.
        started_at: seconds since the epoch.
        started_s: the same moment on the clock of `harness.model.clock`.
        seconds: how long it took.
        command: the command line, for a reader.
        seed: the seed of all random generators.
        jobs: how many tests ran at once; 0 for all in the runner's own process.
        shard: which part of the tests it is, as (K, N); (1, 1) for all of them.
        shard_plan: the plan that the parts belong to; empty if it is all.
        remarks: what else is to be said at the end.
    """

    records: list[TestRecord] = field(default_factory=list)
    not_run: int = 0
    interrupted: bool = False
    started_at: float = field(default_factory=time.time)
    started_s: float = field(default_factory=now)
    seconds: float = 0.0
    command: str = ""
    seed: int = 0
    jobs: int = 0
    shard: tuple[int, int] = (1, 1)
    shard_plan: str = ""
    remarks: list[str] = field(default_factory=list)

    def count(self, status: Status) -> int:
        return sum(record.status is status for record in self.records)

    @property
    def exit_code(self) -> int:
        """0 only if something ran and nothing failed."""
        if self.interrupted or self.count(Status.FAILED):
            return EXIT_FAILED
        return EXIT_PASSED if self.count(Status.PASSED) else EXIT_NOTHING_RAN

    @property
    def counts(self) -> str:
        """The last line of every run."""
        return ", ".join(f"{self.count(status)} {status.value}" for status in Status)


def write_results(run: RunResult, path: str) -> None:
    """A line of JSON about each test: name, status, why it did not pass, how long it took."""
    with open(path, "w", encoding="utf-8") as file:
        for record in run.records:
            status = record.status.value if record.status else ""
            line: dict[str, object] = {"test": record.test_id, "status": status, "why": record.why}
            line["seconds"] = record.seconds
            print(json.dumps(line), file=file)


class RecordingResult(unittest.TestResult):
    """Turns unittest's calls into records; tells a listener about each as it is finished.

    Args:
        on_record: the listener.
    """

    def __init__(self, on_record: Callable[[TestRecord], None]) -> None:
        super().__init__()
        self._on_record = on_record
        self._current: TestRecord | None = None
        self._skipped_fixtures: dict[str, str] = {}

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self._current = TestRecord(test.id(), started_s=now())

    def stopTest(self, test: unittest.TestCase) -> None:
        super().stopTest(test)
        current, self._current = self._current, None
        # A test that unittest calls neither good nor bad was interrupted: it has not been run.
        if current is not None and current.status is not None:
            current.seconds = now() - current.started_s
            self._finish(current)

    def addSuccess(self, test: unittest.TestCase) -> None:
        super().addSuccess(test)
        self._passed()

    def addExpectedFailure(self, test: unittest.TestCase, err: Any) -> None:
        super().addExpectedFailure(test, err)
        self._passed()
        if self._current is not None:
            self._current.reason = "expected failure"

    def _passed(self) -> None:
        if self._current is not None and self._current.status is None:
            self._current.status = Status.PASSED

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:
        super().addFailure(test, err)
        self._trouble("FAIL", test, self.failures[-1][1])

    def addError(self, test: unittest.TestCase, err: Any) -> None:
        super().addError(test, err)
        self._trouble("ERROR", test, self.errors[-1][1])

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:
        before = len(self.failures)
        super().addSubTest(test, subtest, err)
        if err is not None:
            failed = len(self.failures) > before
            text = (self.failures if failed else self.errors)[-1][1]
            self._trouble("FAIL" if failed else "ERROR", subtest, text)

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        super().addSkip(test, reason)
        if hasattr(test, "test_case"):
            return  # a sub-test was skipped; its test has run
        if self._current is not None:
            self._current.status, self._current.reason = Status.SKIPPED, reason
            return
        # A fixture skips all tests of its class or module; unittest reports it alone.
        self._skipped_fixtures[f"{TestRecord(test.id()).owner}."] = reason

    def settle_by_fixture(self, test_id: str) -> None:
        """A test was not run by unittest: if it is because a fixture skipped, it was skipped."""
        for prefix, reason in self._skipped_fixtures.items():
            if test_id.startswith(prefix):
                self._finish(TestRecord(test_id, Status.SKIPPED, reason=reason, started_s=now()))
                return

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        super().addUnexpectedSuccess(test)
        self._trouble("XPASS", test, "passed, but is marked as an expected failure")

    def _trouble(self, label: str, test: unittest.TestCase, text: str) -> None:
        trouble = Trouble(label, test.id(), text.rstrip("\n"))
        if self._current is not None:
            self._current.status = Status.FAILED
            self._current.troubles.append(trouble)
        else:
            self._finish(TestRecord(test.id(), Status.FAILED, troubles=[trouble]))

    def _finish(self, record: TestRecord) -> None:
        if record.troubles:
            _tell_command(record)
        record.notes = notes.take()
        record.ranks = timeline.take()
        self._on_record(record)


def _tell_command(record: TestRecord) -> None:
    """Have the last of a test's failures end with how to run it again, unless one says so."""
    texts = (trouble.text for trouble in record.troubles)
    if any(line.startswith(again.MARK) for text in texts for line in text.splitlines()):
        return
    command = again.command_for_name(record.owner if record.is_fixture else record.test_id)
    if command:
        *others, last = record.troubles
        text = f"{last.text}\n\n{again.MARK}{command}"
        record.troubles = [*others, replace(last, text=text)]
