"""Write Chrome's trace-event format, for ui.perfetto.dev and chrome://tracing.

Each worker is a process of the trace. It has a lane for its tests, and lanes for the ranks' phases
and collectives. Spans that overlap without nesting go to further lanes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

from harness.model.timeline import CollectiveSpan, RankTrack
from harness.runner.reports.lanes import lanes_of
from harness.runner.reports.paths import replace
from harness.runner.reports.text import (
    attempts_of,
    end_of_collective,
    end_of_rank,
    name_of,
    status_of,
    visible,
    visible_name,
)
from harness.runner.results import RunResult, TestRecord

_Event = dict[str, Any]

_TESTS = -1  # the lane of the tests, in place of a rank's number
_LANES_PER_WORKER = 1_000_000
_LANES_PER_RANK = 1000


def write_trace(run: RunResult, path: str | os.PathLike[str]) -> None:
    """Write a run as trace events. Raises OSError if the file cannot be written."""
    replace(path, json.dumps(trace_of(run), separators=(",", ":")).encode())


def trace_of(run: RunResult) -> dict[str, Any]:
    """Return the events: names of processes and lanes first, then the others by time."""
    workers: dict[int, _Worker] = {}
    for record in run.records:
        worker = workers.setdefault(record.worker, _Worker(record.worker, run.started_s))
        for number, attempt in enumerate(attempts_of(record), 1):
            worker.add(attempt, number if record.earlier else 0)
    events = [event for _, worker in sorted(workers.items()) for event in worker.events()]
    # Names ("M" events) first. Of events that begin together, the outer one must come first.
    events.sort(key=lambda event: (event["ph"] != "M", event["ts"], -event.get("dur", 0)))
    other = _visible({"command": run.command, "seed": run.seed, "jobs": run.jobs})
    return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": other}


class _Worker:
    """The events of one worker: its tests, and the phases and collectives of their ranks."""

    def __init__(self, number: int, started_s: float) -> None:
        self._number = number
        self._pid = number + 1  # viewers treat process 0 as the idle process
        self._started_s = started_s
        # Spans by rank; _TESTS sorts before all ranks.
        self._spans: dict[int, list[_Event]] = {}
        self._ends: list[_Event] = []

    def add(self, record: TestRecord, attempt: int) -> None:
        """Add a test, or one attempt at it, and the spans of its ranks."""
        if record.started_s:
            began, ended = record.started_s, record.started_s + record.seconds
            name = visible_name(name_of(record))
            self._span(_TESTS, "test", name, (began, ended), _about(record, attempt))
        for track in record.ranks:
            self._add_rank(track)

    def events(self) -> Iterator[_Event]:
        """Yield all events, each in its lane, and the names of the lanes."""
        name = f"worker {self._number}" if self._number else "runner"
        yield self._named("process_name", 0, name=name)
        yield self._named("process_sort_index", 0, sort_index=self._number)
        for rank, spans in sorted(self._spans.items()):
            lanes = lanes_of([(span["ts"], span["ts"] + span["dur"]) for span in spans])
            for lane in range(max(lanes) + 1):
                yield from self._names_of_lane(rank, lane)
            for span, lane in zip(spans, lanes, strict=True):
                span["tid"] = self._tid(rank, lane)
                yield span
        yield from self._ends

    def _add_rank(self, track: RankTrack) -> None:
        for phase in track.phases:
            self._span(track.rank, "phase", phase.name, (phase.began_s, phase.ended_s), {})
        for span in track.collectives:
            times = (span.began_s, end_of_collective(span, track))
            self._span(track.rank, "collective", span.op, times, _told(span))
        end = end_of_rank(track)
        if end is not None:
            self._ends.append(self._end(track, end))

    def _span(
        self, rank: int, kind: str, name: str, times: tuple[float, float], args: _Event
    ) -> None:
        """Add a span. Both ends are rounded, not the duration, so that nested spans stay nested."""
        began, ended = self._us(times[0]), self._us(max(times))
        event = {"ph": "X", "cat": kind, "name": visible(name), "ts": began, "dur": ended - began}
        event |= {"pid": self._pid, "args": _visible(args)}
        self._spans.setdefault(rank, []).append(event)

    def _end(self, track: RankTrack, at_s: float) -> _Event:
        args = {"rank": track.rank, "process": track.pid, "reason": track.reason}
        name = visible(track.outcome) or "ended"
        event = {"ph": "i", "s": "t", "cat": "end", "name": name, "args": _visible(args)}
        return {**event, "ts": self._us(at_s), "pid": self._pid, "tid": self._tid(track.rank, 0)}

    def _names_of_lane(self, rank: int, lane: int) -> Iterator[_Event]:
        name = "tests" if rank == _TESTS else f"rank {rank}"
        tid = self._tid(rank, lane)
        yield self._named("thread_name", tid, name=f"{name}, overlapping" if lane else name)
        # Without an index, viewers sort lanes by name, so that rank 10 would come before rank 2.
        yield self._named("thread_sort_index", tid, sort_index=tid)

    def _named(self, what: str, tid: int, **args: Any) -> _Event:
        return {"ph": "M", "name": what, "pid": self._pid, "tid": tid, "ts": 0, "args": args}

    def _tid(self, rank: int, lane: int) -> int:
        """Return a lane number that is unique in the trace: some viewers merge equal numbers."""
        return self._pid * _LANES_PER_WORKER + (rank + 1) * _LANES_PER_RANK + lane

    def _us(self, at_s: float) -> int:
        return round((at_s - self._started_s) * 1_000_000)


def _about(record: TestRecord, attempt: int) -> _Event:
    args: _Event = {
        "test": visible_name(record.key),
        "status": status_of(record),
        "why": record.why,
    }
    return {**args, "attempt": attempt} if attempt else args


def _told(span: CollectiveSpan) -> _Event:
    return {
        "group": span.group,
        "seq": span.seq,
        "shapes": span.shapes,
        "status": "pending" if span.pending else "completed",
    }


def _visible(args: _Event) -> _Event:
    """Return the arguments without characters that viewers may not support."""
    return {key: visible(v) if isinstance(v, str) else v for key, v in args.items()}
