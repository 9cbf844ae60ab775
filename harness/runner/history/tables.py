"""The schema of the history file, and its queries."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from harness.runner.history.trends import RECENT, Outcome
from harness.runner.reports.text import original_name, visible_name
from harness.runner.results import RunResult, Status, TestRecord

if TYPE_CHECKING:
    from sqlite3 import Connection

#: Marks the file as this program's in its header: the letters "hrns".
APPLICATION = 0x68726E73
SCHEMA = 1

#: How many runs to keep for each test. The count is per test, so running one test a hundred times
#: does not remove the last runs of the others.
KEPT_RUNS = 50
#: A test is removed after this many runs without it.
FORGOTTEN_RUNS = 500
_MAX_WHY = 300

TABLES = (
    "CREATE TABLE runs (id INTEGER PRIMARY KEY, at REAL NOT NULL, code TEXT NOT NULL,"
    " plan TEXT NOT NULL, shard INTEGER NOT NULL, shards INTEGER NOT NULL)",
    "CREATE TABLE tests (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    "CREATE TABLE outcomes (test INTEGER NOT NULL, run INTEGER NOT NULL, failed INTEGER NOT NULL,"
    " flaky INTEGER NOT NULL, attempts INTEGER NOT NULL, us INTEGER NOT NULL,"
    # Clustered by test and run: every query reads the last runs of one test.
    " ranks INTEGER NOT NULL, why TEXT, PRIMARY KEY (test, run)) WITHOUT ROWID",
    f"PRAGMA application_id = {APPLICATION}",
    f"PRAGMA user_version = {SCHEMA}",
)


class Row(NamedTuple):
    """One test of a run; the fields are the columns of the table, in order."""

    test_id: str
    failed: bool
    flaky: bool
    attempts: int
    us: int
    ranks: int
    why: str | None


def rows_of(run: RunResult) -> list[Row]:
    """Return a row for each test that ran; a repeated test has failed if it failed once."""
    found: dict[str, Row] = {}
    for row in (_row_of(record) for record in run.records if _has_run(record)):
        other = found.get(row.test_id)
        found[row.test_id] = row if other is None else _together(other, row)
    return list(found.values())


def _has_run(record: TestRecord) -> bool:
    """Whether it is a test that ran, not a fixture or a module that could not be imported."""
    is_import = any(trouble.title == f"import of {record.test_id}" for trouble in record.troubles)
    return (
        record.status in (Status.PASSED, Status.FAILED) and not record.is_fixture and not is_import
    )


def _row_of(record: TestRecord) -> Row:
    # A flaky test passed in the end, so the reason is that of its last failure.
    told = record.earlier[-1] if record.is_flaky else record
    failed = record.status is Status.FAILED
    return Row(
        visible_name(record.key),
        failed,
        record.is_flaky,
        1 + len(record.earlier),
        round(max(record.seconds, 0.0) * 1e6),
        len(record.ranks),
        _storable(told.why)[:_MAX_WHY] if failed or record.is_flaky else None,
    )


def _together(one: Row, other: Row) -> Row:
    """Combine two outcomes of a test in one run."""
    # A test that failed in one repetition (--repeat, --stress) has failed, whatever the others did.
    worse, better = (one, other) if one.failed else (other, one)
    flaky = one.flaky or other.flaky or one.failed != other.failed
    return worse._replace(flaky=flaky, attempts=worse.attempts + better.attempts)


def _storable(text: str) -> str:
    """Escape lone surrogates, which come from output that is not UTF-8; SQLite rejects them."""
    return text.encode("utf-8", "backslashreplace").decode()


def add(connection: Connection, run: RunResult, code: str, rows: Iterable[Row]) -> None:
    """Add a run and its tests."""
    new = connection.execute(
        "INSERT INTO runs (at, code, plan, shard, shards) VALUES (?, ?, ?, ?, ?)",
        (run.started_at, code, run.shard_plan, *run.shard),
    )
    connection.executemany(
        # Names are stored once, and outcomes refer to them by number: most of the file is outcomes.
        "INSERT OR IGNORE INTO tests (name) VALUES (?)",
        ((row.test_id,) for row in rows),
    )
    connection.executemany(
        "INSERT INTO outcomes (test, run, failed, flaky, attempts, us, ranks, why)"
        " SELECT id, ?, ?, ?, ?, ?, ?, ? FROM tests WHERE name = ?",
        ((new.lastrowid, *row[1:], row.test_id) for row in rows),
    )


def prune(connection: Connection, rows: Iterable[Row]) -> None:
    """Delete old outcomes; only tests of this run can have more than KEPT_RUNS."""
    connection.executemany(
        "WITH own AS (SELECT id FROM tests WHERE name = ?)"
        " DELETE FROM outcomes WHERE test = (SELECT id FROM own) AND run <="
        " (SELECT run FROM outcomes WHERE test = (SELECT id FROM own)"
        f" ORDER BY run DESC LIMIT 1 OFFSET {KEPT_RUNS})",
        ((row.test_id,) for row in rows),
    )
    # Outcomes first, then runs and names that no outcome refers to.
    last = f"SELECT id FROM runs ORDER BY id DESC LIMIT 1 OFFSET {FORGOTTEN_RUNS}"
    for (run,) in connection.execute(last).fetchall():
        connection.execute("DELETE FROM outcomes WHERE run <= ?", (run,))
        connection.execute("DELETE FROM runs WHERE id <= ?", (run,))
        connection.execute("DELETE FROM tests WHERE id NOT IN (SELECT test FROM outcomes)")


def durations(connection: Connection) -> dict[str, float]:
    """Return test to the median of its last runs, in seconds."""
    return _durations(connection)


def shard_durations(connection: Connection) -> dict[str, float]:
    """Return the same, ignoring plans of which some shards have not been recorded.

    All shards of a plan must see equal durations, although they run one after the other. So what
    they record only counts when all of them have.
    """
    incomplete = (
        "SELECT id FROM runs WHERE plan IN (SELECT plan FROM runs WHERE plan != ''"
        " GROUP BY plan HAVING count(DISTINCT shard) < max(shards))"
    )
    return _durations(connection, f"AND run NOT IN ({incomplete})")


def _durations(connection: Connection, condition: str = "") -> dict[str, float]:
    found = connection.execute(
        "SELECT name, us FROM tests JOIN outcomes ON test = tests.id WHERE run >= coalesce("
        f"(SELECT run FROM outcomes WHERE test = tests.id {condition}"
        f" ORDER BY run DESC LIMIT 1 OFFSET {RECENT - 1}), 0) {condition}"
        " ORDER BY tests.id"
    )
    grouped = groupby(found, key=lambda row: row[0])
    return {original_name(name): median(us for _, us in rows) / 1e6 for name, rows in grouped}


def last_failed(connection: Connection) -> list[str]:
    """Return the tests whose last outcome is a failure."""
    # With max(), SQLite takes the bare columns from the row with the maximum.
    found = connection.execute(
        "SELECT name, failed, max(run) FROM outcomes JOIN tests ON tests.id = test"
        " GROUP BY test ORDER BY test"
    )
    return [original_name(name) for name, failed, _ in found if failed]


def past(connection: Connection) -> dict[str, list[Outcome]]:
    """Return test to all its outcomes, from the oldest to the newest."""
    found = connection.execute(
        "SELECT name, run, at, code, failed, flaky, us, coalesce(why, '') FROM outcomes"
        " JOIN tests ON tests.id = test JOIN runs ON runs.id = run ORDER BY test, run"
    )
    return {
        original_name(name): [
            Outcome(run, float(at), code, bool(failed), bool(flaky), us / 1e6, why)
            for _, run, at, code, failed, flaky, us, why in rows
        ]
        for name, rows in groupby(found, key=lambda row: row[0])
    }
