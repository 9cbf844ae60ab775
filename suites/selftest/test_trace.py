"""The trace for Perfetto and chrome://tracing."""

from __future__ import annotations

import json
import tempfile
import unittest
from collections import defaultdict
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.model.timeline import CollectiveSpan, RankTrack
from harness.runner.reports.lanes import lanes_of
from harness.runner.reports.trace import trace_of, write_trace
from suites.selftest import report_runs as runs


class TestTrace(unittest.TestCase):
    def events(self, run, ph):
        return [event for event in trace_of(run)["traceEvents"] if event["ph"] == ph]

    def lanes(self, run):
        """The names of the lanes, by process and lane."""
        named = [e for e in self.events(run, "M") if e["name"] == "thread_name"]
        return {(e["pid"], e["tid"]): e["args"]["name"] for e in named}

    def assert_nested(self, run):
        open_until = defaultdict(list)
        for event in self.events(run, "X"):
            ends = open_until[event["pid"], event["tid"]]
            while ends and ends[-1] <= event["ts"]:
                ends.pop()
            end = event["ts"] + event["dur"]
            if ends:
                self.assertLessEqual(end, ends[-1], event)
            ends.append(end)

    def test_is_json_in_order_of_time_and_nests(self):
        for make in (runs.ten, lambda: runs.ten(bad=True), runs.desync, lambda: runs.many(100)):
            run = make()
            with self.subTest(make), tempfile.TemporaryDirectory() as folder:
                write_trace(run, Path(folder, "trace.json"))
                data = json.loads(Path(folder, "trace.json").read_text())
                self.assertEqual(data, trace_of(run))
                times = [e["ts"] for e in data["traceEvents"] if e["ph"] != "M"]
                self.assertEqual(times, sorted(times))
                self.assertGreaterEqual(times[0], 0)
                self.assert_nested(run)

    def test_a_process_for_each_worker_and_a_lane_for_each_rank(self):
        run = runs.desync()
        processes = [e for e in self.events(run, "M") if e["name"] == "process_name"]
        self.assertEqual([e["args"]["name"] for e in processes], ["worker 1", "worker 2"])
        of_first = [name for (pid, _), name in self.lanes(run).items() if pid == 2]
        self.assertEqual(of_first, ["tests", "rank 0", "rank 1", "rank 2", "rank 3"])
        tids = [tid for _, tid in self.lanes(run)]
        self.assertEqual(len(tids), len(set(tids)))

    def test_every_event_is_in_a_lane_with_a_name(self):
        run = runs.ten(bad=True)
        lanes = self.lanes(run)
        for event in [*self.events(run, "X"), *self.events(run, "i")]:
            self.assertIn((event["pid"], event["tid"]), lanes)

    def test_times_count_from_the_start_of_the_run_in_microseconds(self):
        tests = [e for e in self.events(runs.ten(), "X") if e["cat"] == "test"]
        self.assertEqual({e["ts"] for e in tests}, {0, 60_000, 120_000, 180_000, 240_000})
        self.assertEqual({e["dur"] for e in tests}, {50_000})
        self.assertEqual(tests[0]["args"]["status"], "passed")

    def test_what_is_pending_lasts_as_long_as_its_rank(self):
        run = runs.desync()
        pending = [
            e for e in self.events(run, "X") if e["cat"] == "collective" and "pending" in str(e)
        ]
        self.assertEqual([e["name"] for e in pending], ["all_reduce", "broadcast"])
        self.assertEqual(pending[0]["args"]["seq"], 7)
        ends = {e["tid"]: e for e in self.events(run, "i") if e["name"] == "timed out"}
        for event in pending:
            end = ends[event["tid"]]
            self.assertEqual(event["ts"] + event["dur"], end["ts"])
            self.assertIn("waited in", end["args"]["reason"])

    def test_earlier_attempts_are_there(self):
        tests = [e for e in self.events(runs.ten(bad=True), "X") if e["name"] == "test_step_7"]
        found = [(e["args"]["attempt"], e["args"]["status"]) for e in tests]
        self.assertEqual(found, [(1, "failed"), (2, "passed")])

    def test_what_overlaps_has_a_lane_of_its_own(self):
        at = runs.STARTED_S
        spans = tuple(
            CollectiveSpan("all_reduce", "g", n + 1, "", at + n, at + n + 1.5, False)
            for n in range(4)
        )
        record = runs.record_of(0, at, 6.0, worker=1)
        record.ranks = (RankTrack(0, 1, collectives=spans),)
        run = runs.run_of([record])
        self.assert_nested(run)
        expected = ["tests", "rank 0", "rank 0, overlapping"]
        self.assertEqual(list(self.lanes(run).values()), expected)

    def test_hostile_text_and_times_before_the_run(self):
        text = json.dumps(trace_of(runs.nasty()), ensure_ascii=False)
        text.encode()  # no lone surrogate is left
        self.assertIn("</script>", text)
        self.assert_nested(runs.nasty())

    def test_lanes(self):
        self.assertEqual(lanes_of([(0, 9), (0, 3), (3, 9), (2, 4), (9, 10)]), [0, 0, 0, 1, 0])
        self.assertEqual(lanes_of([(5, 5), (5, 5), (0, 5)]), [0, 0, 0])
        self.assertEqual(lanes_of([]), [])

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)).map(sorted).map(tuple)))
    def test_spans_of_a_lane_never_overlap(self, spans):
        lanes = lanes_of(spans)
        for n, (a, b) in enumerate(spans):
            for m, (c, d) in enumerate(spans):
                crossing = a < c < b < d
                self.assertFalse(crossing and lanes[n] == lanes[m], (spans, lanes))
