"""The results of a run: a record for every test, and the totals that decide the exit code."""

from __future__ import annotations

import enum
import re
import time
from dataclasses import dataclass, field
from typing import Any

import msgspec

from harness.model import notes
from harness.model.clock import now
from harness.model.timeline import RankTrack
from harness.ranks.typed_message import plain
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
        title: the test, or the subtest with its parameters.
        text: the message and traceback.
    """

    label: str
    title: str
    text: str


@dataclass(frozen=True)
class SkippedSubtest:
    """A subtest that was skipped, although its test ran.

    Attributes:
        title: the test with the parameters of the subtest.
        reason: why it was skipped.
    """

    title: str
    reason: str


class TestRecord(msgspec.Struct, omit_defaults=True):
    """The result of one test (or fixture, or module that could not be imported).

    Attributes:
        test_id: unittest's id of the test.
        status: None while it runs.
        seconds: how long it took, including setup.
        reason: why it was skipped; for a test that passed, "expected failure" if it was one.
        troubles: its failures and errors.
        notes: its notes for the summary.
        started_s: when it began, on the clock of `harness.model.clock`.
        worker: the number of the worker that ran it, from 1; 0 for the runner's own process.
        stdout, stderr: the end of what its own process printed; ranks have their own output.
        ranks: its ranks' timelines, if it has ranks and a report needs them.
        earlier: the records of earlier attempts, which all failed.
        copy: distinguishes tests with the same id, from 0; for a fixture, classes with that name.
        skipped_subtests: its subtests that were skipped.
    """

    __test__ = False  # pytest would collect it, because its name starts with "Test"

    test_id: str
    status: Status | None = None
    seconds: float = 0.0
    reason: str = ""
    troubles: list[Trouble] = msgspec.field(default_factory=list)
    notes: list[notes.Note] = msgspec.field(default_factory=list)
    started_s: float = 0.0
    worker: int = 0
    stdout: str = ""
    stderr: str = ""
    ranks: tuple[RankTrack, ...] = ()
    earlier: list[TestRecord] = msgspec.field(default_factory=list)
    copy: int = 0
    skipped_subtests: list[SkippedSubtest] = msgspec.field(default_factory=list)

    @property
    def key(self) -> str:
        """A unique name: the id, with a number if several tests have the same id."""
        return f"{self.test_id}{self.copy_suffix}"

    @property
    def copy_suffix(self) -> str:
        """The part of `key` after the id; empty for the first test with an id."""
        return copy_suffix(self.copy)

    @property
    def is_flaky(self) -> bool:
        """Whether it failed first and then passed."""
        return self.status is Status.PASSED and bool(self.earlier)

    @property
    def why(self) -> str:
        """One line about why it did not simply pass: the exception, or the reason for a skip."""
        if not self.troubles:
            return self.reason
        lines = self.troubles[0].text.splitlines()
        # The first line that is neither a frame nor the heading of a traceback is the exception.
        own = (line for line in lines if line and not line.startswith((" ", "Traceback")))
        return next(own, "")

    @property
    def is_fixture(self) -> bool:
        """Whether it is the setup or teardown of a class or module, not a test."""
        return _FIXTURE.match(self.test_id) is not None

    def to_data(self) -> dict[str, Any]:
        """Return the record as JSON data, without empty fields."""
        data: dict[str, Any] = msgspec.to_builtins(self, enc_hook=plain)
        return data

    @property
    def owner(self) -> str:
        """The class (or module) that the test or fixture belongs to."""
        fixture = _FIXTURE.match(self.test_id)
        return fixture[1] if fixture else owner_of(self.test_id)


def owner_of(test_id: str) -> str:
    """Return the class in a test's id; text may follow the method: `m.C.test_p0 (1.5, 'a.b')`."""
    return _END_OF_METHOD.split(test_id, maxsplit=1)[0].rpartition(".")[0]


# absl and testscenarios append a test's arguments or scenario to its id, after one of these.
_END_OF_METHOD = re.compile(r"[\s(\[]")


def copy_suffix(copy: int) -> str:
    """Return the suffix that distinguishes tests with the same id: "", " #2", " #3", …"""
    return f" #{copy + 1}" if copy else ""


def record_from_data(data: object) -> TestRecord:
    """Return the record from `TestRecord.to_data`. Raises ValueError on other data."""
    return with_outcome(msgspec.convert(data, TestRecord))


def with_outcome(record: TestRecord) -> TestRecord:
    """Return the record of another process, with a status that its content justifies.

    Damaged data must not turn into a pass. So a record without an outcome, or with failures but
    another status, becomes a failure.
    """
    if record.status is None and not record.troubles:
        record.troubles = [Trouble("ERROR", record.key, "NoOutcome: the record has no outcome")]
    if record.troubles:
        record.status = Status.FAILED
    record.earlier = [with_outcome(earlier) for earlier in record.earlier]
    return record


# unittest's id of a class or module fixture that failed or skipped.
_FIXTURE = re.compile(r"(?:setUp|tearDown)(?:Class|Module) \((.+)\)$")


@dataclass
class RunResult:
    """All records of a run.

    Attributes:
        records: in the order of the plan, regardless of the order in which the tests ended.
        not_run: how many planned tests did not run.
        interrupted: whether the run was stopped before its end.
        started_at: seconds since the epoch.
        started_s: the same moment on the clock of `harness.model.clock`.
        seconds: how long it took.
        command: the command line, to show.
        seed: the seed of all random generators.
        jobs: how many tests ran at once; 0 for all in the runner's own process.
        shard: the part of the tests that ran, as (K, N); (1, 1) for all of them.
        shard_plan: identifies the plan of the shards; empty without shards.
        remarks: further lines for the summary.
        max_skips: how many skips are accepted; None for any number.
        flaky_fails: whether a test that failed first and then passed fails the run.
        found: how many tests the names select, before `-k`, shards and past failures.
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
    max_skips: int | None = None
    flaky_fails: bool = False
    found: int = 0

    def count(self, status: Status) -> int:
        return sum(record.status is status for record in self.records)

    @property
    def skips(self) -> int:
        """How many tests and subtests were skipped."""
        subtests = sum(len(record.skipped_subtests) for record in self.records)
        return self.count(Status.SKIPPED) + subtests

    @property
    def flaky(self) -> int:
        """How many tests failed first and then passed."""
        return sum(record.is_flaky for record in self.records)

    @property
    def has_too_many_skips(self) -> bool:
        """Whether there are more skips than --max-skips accepts, which fails the run."""
        return self.max_skips is not None and self.skips > self.max_skips

    @property
    def exit_code(self) -> int:
        """0 only if something ran, everything planned ran, and nothing failed."""
        is_incomplete = self.interrupted or self.not_run or self.count_unknown
        # Flaky tests count as passed, so that --retries can keep a CI green; --flaky fail opts out.
        has_bad_flaky = self.flaky_fails and self.flaky
        has_failed = self.count(Status.FAILED) or self.has_too_many_skips or has_bad_flaky
        if is_incomplete or has_failed:
            return EXIT_FAILED
        return EXIT_PASSED if self.count(Status.PASSED) else EXIT_NOTHING_RAN

    @property
    def count_unknown(self) -> int:
        """How many records have no outcome."""
        return sum(record.status is None for record in self.records)

    @property
    def counts(self) -> str:
        """The last line of every run."""
        return ", ".join(f"{self.count(status)} {status.value}" for status in Status)
