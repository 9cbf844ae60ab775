"""The data of the HTML page: a table row for each test, and details that load when opened."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from harness.model.timeline import CollectiveSpan, RankTrack
from harness.runner.reports.text import (
    attempts_of,
    end_of_rank,
    ms_since,
    name_of,
    shortened,
    status_of,
    visible,
    visible_name,
)
from harness.runner.results import RunResult, TestRecord

_MAX_WHY = 300


@dataclass(frozen=True)
class Row:
    """A test's row in the table.

    Attributes:
        key: the fragment of a link to it; its full name, with a number if it is not unique.
        owner, name: the two parts of the full name.
        status: passed, failed, skipped or unfinished.
        flaky: whether it failed first and passed in a retry.
        seconds: how long it took.
        ranks: the number of its ranks.
        worker: the number of the worker that ran it.
        attempts: the number of attempts.
        why: one line about why it did not simply pass.
    """

    key: str
    owner: str
    name: str
    status: str
    flaky: bool
    seconds: float
    ranks: int
    worker: int
    attempts: int
    why: str


def rows_of(run: RunResult) -> list[Row]:
    """Return a row for each test, in the order of the run."""
    seen: dict[str, int] = {}
    rows = []
    for record in run.records:
        # An HTML parser turns a carriage return into a line feed, and the link would not match.
        key = visible_name(record.key).replace("\r", "\\r")
        seen[key] = seen.get(key, 0) + 1
        rows.append(_row(record, f"{key}~{seen[key]}" if seen[key] > 1 else key))
    return rows


def _row(record: TestRecord, key: str) -> Row:
    why = record.why
    # A flaky test passed, so it has no reason of its own; show why it failed before.
    if not why and record.earlier:
        why = record.earlier[-1].why
    return Row(
        key=key,
        owner=visible_name(record.owner),
        name=visible_name(name_of(record)),
        status=status_of(record),
        flaky=record.is_flaky,
        seconds=record.seconds,
        ranks=len(record.ranks),
        worker=record.worker,
        attempts=len(attempts_of(record)),
        why=shortened(visible(why), _MAX_WHY),
    )


def overview_of(run: RunResult) -> dict[str, Any]:
    """Return the bars of the run's timeline: [row, worker, began, ended, status] for each attempt.

    Times are in milliseconds from the run's start.
    """
    bars = [
        [
            number,
            attempt.worker or record.worker,
            ms_since(run.started_s, attempt.started_s),
            ms_since(run.started_s, attempt.started_s + attempt.seconds),
            "flaky" if attempt is record and record.is_flaky else status_of(attempt),
        ]
        for number, record in enumerate(run.records)
        for attempt in attempts_of(record)
        if attempt.started_s
    ]
    return {"ms": ms_since(0.0, run.seconds), "bars": bars}


def detail_of(record: TestRecord) -> list[dict[str, Any]]:
    """Return the details of each attempt at a test, the last attempt first."""
    return [_attempt(attempt) for attempt in reversed(attempts_of(record))]


def embedded(values: Iterable[Any]) -> str:
    """Return values as lines of JSON that are safe in a script element.

    The output is ASCII, so that lone surrogates and unusual line separators survive. It has none of
    the characters that are special in HTML: a text with `</script>` would end the element.
    """
    lines = "\n".join(json.dumps(value, separators=(",", ":")) for value in values)
    return lines.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _attempt(record: TestRecord) -> dict[str, Any]:
    start_s = _start_of(record)
    return {
        "status": status_of(record),
        # JSON has no infinity; a damaged record may contain one.
        "seconds": record.seconds if math.isfinite(record.seconds) else None,
        "reason": record.reason,
        "troubles": [[t.label, t.title, t.text] for t in record.troubles],
        "notes": [[note.kind, note.text] for note in record.notes],
        "stdout": record.stdout,
        "stderr": record.stderr,
        "ranks": [_rank(track, start_s) for track in record.ranks],
    }


def _start_of(record: TestRecord) -> float:
    """Return the time from which the times of its ranks are counted."""
    began = [phase.began_s for track in record.ranks for phase in track.phases]
    began += [span.began_s for track in record.ranks for span in track.collectives]
    return min([*began, *([record.started_s] if record.started_s else [])], default=0.0)


def _rank(track: RankTrack, start_s: float) -> dict[str, Any]:
    return {
        "rank": track.rank,
        "pid": track.pid,
        "outcome": track.outcome,
        "reason": track.reason,
        "stdout": track.stdout,
        "stderr": track.stderr,
        "stacks": track.stacks,
        "ended": ms_since(start_s, end_of_rank(track)),
        "phases": [
            [p.name, ms_since(start_s, p.began_s), ms_since(start_s, p.ended_s)]
            for p in track.phases
        ],
        "collectives": [_collective(span, start_s) for span in track.collectives],
    }


def _collective(span: CollectiveSpan, start_s: float) -> list[Any]:
    """Return a collective as a list: with many thousands, field names would be most of the file."""
    began, ended = ms_since(start_s, span.began_s), ms_since(start_s, span.ended_s)
    return [span.op, span.group, span.seq, span.shapes, began, ended, span.pending]
