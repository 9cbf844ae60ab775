"""Record what the ranks of a test did over time, for timelines."""

from __future__ import annotations

import contextlib
from collections.abc import Container, Hashable, Iterator, Mapping, Sequence
from dataclasses import replace

from harness.diagnosis.report import stacks_text
from harness.diagnosis.words import explain, word
from harness.model import settings, timeline
from harness.model.clock import now
from harness.model.outcome import Outcome, Passed, Skipped
from harness.model.rank_report import RankReport
from harness.model.timeline import CollectiveSpan, RankTrack
from harness.model.verdict import ExitRule, judge
from harness.ranks.logs import WorldLogs
from harness.ranks.watch.supervisor import Supervisor
from harness.ranks.watch.watched_rank import WatchedRank

# How much of each stream to keep; readers look less at a rank that passed.
_PASSED_BYTES, _OTHERS_BYTES = 16 * 1024, 64 * 1024

# No rank can complete these before every rank of the group has called them.
_FOR_ALL = (
    "all_gather",
    "all_reduce",
    "all_to_all",
    "allgather",
    "allreduce",
    "alltoall",
    "barrier",
    "reduce_scatter",
)


@contextlib.contextmanager
def recording_tracks(
    supervisor: Supervisor, logs: WorldLogs, rule: ExitRule, test: str = ""
) -> Iterator[None]:
    """Record the tracks of the ranks when the block ends, if timelines are on.

    Args:
        supervisor: the supervisor of the ranks.
        logs: the output of the ranks.
        rule: the exit codes that the test expects.
        test: name of the test method.
    """
    try:
        yield
    finally:
        if settings.TIMELINE.value():
            endings = Endings(supervisor.reports(), rule, test)
            tracks = [_track_of_process(rank, endings, logs) for rank in supervisor.ranks]
            timeline.put(_with_completions(tracks))


class Endings:
    """The outcome of each rank, for its track.

    Args:
        reports: one for each rank.
        rule: the exit codes that the test expects.
        test: name of the test method.
    """

    def __init__(self, reports: Sequence[RankReport], rule: ExitRule, test: str) -> None:
        self._reports = {report.rank: report for report in reports}
        self._collateral: Container[int] = judge(reports, rule).collateral
        self._test = test

    def passed(self, rank: int) -> bool:
        """Whether a rank has passed."""
        return isinstance(self._reports[rank].outcome, Passed)

    def on(self, track: RankTrack) -> RankTrack:
        """Return the track with the rank's outcome."""
        report = self._reports[track.rank]
        outcome = report.outcome
        return replace(
            track,
            outcome="lost its peer" if track.rank in self._collateral else word(outcome),
            reason=_reason(outcome),
            stacks=stacks_text(report, self._test),
        )


def _reason(outcome: Outcome) -> str:
    if isinstance(outcome, Passed):
        return ""
    return outcome.reason if isinstance(outcome, Skipped) else explain(outcome)


def _track_of_process(rank: WatchedRank, endings: Endings, logs: WorldLogs) -> RankTrack:
    rank.handle.pass_on_output()  # to the log file, if the rank does not write it itself
    limit = _PASSED_BYTES if endings.passed(rank.rank) else _OTHERS_BYTES
    stdout, stderr = (logs.end(rank.rank, stream, limit) for stream in ("stdout", "stderr"))
    phases = rank.progress.phases(rank.ended_s or now())
    track = RankTrack(rank.rank, rank.handle.pid, phases, rank.spans, stdout=stdout, stderr=stderr)
    return endings.on(track)


def _with_completions(tracks: Sequence[RankTrack]) -> tuple[RankTrack, ...]:
    """Return the tracks with end times for collectives whose backend records none (gloo).

    A collective that needs every rank ends, apart from the transfer, when the last rank calls it.
    """
    issued: dict[Hashable, list[float]] = {}
    for span in (span for track in tracks for span in track.collectives):
        issued.setdefault(_key(span), []).append(span.began_s)
    # A killed rank sends no spans. A span that only one of several ranks has cannot be completed.
    known = {key: max(times) for key, times in issued.items() if len(times) > 1 or len(tracks) == 1}
    return tuple(
        replace(track, collectives=tuple(_completed(span, known) for span in track.collectives))
        for track in tracks
    )


def _key(span: CollectiveSpan) -> Hashable:
    return span.group, span.seq, span.op


def _completed(span: CollectiveSpan, known: Mapping[Hashable, float]) -> CollectiveSpan:
    is_for_all = span.op.lstrip("_").startswith(_FOR_ALL)
    if span.pending or span.ended_s is not None or not is_for_all:
        return span
    return replace(span, ended_s=known.get(_key(span)))
