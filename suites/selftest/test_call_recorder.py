"""A rank's recorder: details for snapshots, and the life of work in flight."""

from __future__ import annotations

import unittest
from dataclasses import replace

from harness.model.communication import Call, group_key
from harness.model.evidence import Collective, Snapshot
from harness.ranks.call_recorder import CallRecorder
from harness.ranks.regions import Region

KEY = group_key("0", (0, 1))
SUM = Call(KEY, "all_reduce", reduction="SUM")
ROOT = Call(KEY, "broadcast", root=1)
SCATTER = Call(KEY, "reduce_scatter", reduction="MAX")


def seen(*ops):
    """What torch's flight recorder has."""
    one = Collective("0", 1, "", "gloo", (), (), False, 0.0, 1.0)
    return Snapshot(collectives=tuple(replace(one, op=op, seq=i + 1) for i, op in enumerate(ops)))


class Work:
    """Stands for torch's; it can be referred to weakly."""


class RecorderTestCase(unittest.TestCase):
    def setUp(self):
        self.calls = CallRecorder()

    def record(self, *calls, **more):
        return [self.calls.record(call, lambda call=call: call, **more) for call in calls]

    def details(self, snapshot):
        return [each.detail for each in self.calls.with_details(snapshot).collectives]


class TestDetails(RecorderTestCase):
    def test_in_step(self):
        self.record(SUM, ROOT, SCATTER)
        # gloo runs reduce_scatter as an all_reduce.
        self.assertEqual(
            self.details(seen("all_reduce", "broadcast", "all_reduce")), ["SUM", "root 1", "MAX"]
        )

    def test_a_call_that_is_being_issued(self):
        self.record(SUM, ROOT, SCATTER)
        self.assertEqual(self.details(seen("all_reduce", "broadcast")), ["SUM", "root 1"])

    def test_nothing_where_they_are_out_of_step(self):
        self.record(SUM, ROOT)
        self.assertEqual(self.details(seen("all_reduce", "broadcast", "barrier")), [""] * 3)
        self.assertEqual(self.details(seen("broadcast", "all_reduce")), [""] * 2)

    def test_nothing_after_a_failure(self):
        (position, _) = self.record(SUM, ROOT)
        self.calls.raised(position)
        self.assertEqual(self.details(seen("all_reduce", "broadcast")), ["", ""])

    def test_nothing_where_calls_were_left_out(self):
        self.calls.exempt(True)
        self.record(SUM)
        self.calls.exempt(False)
        self.record(SUM)
        self.assertEqual(self.details(seen("all_reduce", "all_reduce")), ["", ""])


class TestWork(RecorderTestCase):
    def problems(self):
        return [fault.problem for fault in self.calls.finish().faults]

    def follow(self, is_async=True, regions=()):
        self.record(SUM, is_async=is_async, regions=regions)
        work = Work()
        self.calls.follow(work)
        return work

    def test_waited(self):
        work = self.follow()
        self.assertEqual(self.calls.in_flight, 1)
        self.calls.waited(work)
        self.assertEqual((self.calls.in_flight, self.problems()), (0, []))

    def test_kept_and_never_waited(self):
        work = self.follow()
        self.assertEqual(self.problems(), ["nobody waits for its Work"])
        del work

    def test_dropped(self):
        self.follow()
        self.assertEqual(
            (self.calls.in_flight, self.problems()), (0, ["nobody waits for its Work"])
        )

    def test_torch_waits_for_what_is_not_asynchronous(self):
        self.follow(is_async=False)
        self.assertEqual(self.problems(), [])

    def test_an_access_in_flight_is_told_once(self):
        memory = Region(1, 0, 8, may_be_read=False, run=8)
        work = self.follow(regions=[memory])
        for _ in range(2):
            self.calls.touched(memory, False, "sum")
        self.calls.waited(work)
        self.calls.touched(memory, True, "mul_")
        self.assertEqual(self.problems(), ["sum reads its tensor before wait()"])

    def test_memory_that_may_be_read(self):
        memory = Region(1, 0, 8, may_be_read=True, run=8)
        work = self.follow(regions=[memory])
        self.calls.touched(memory, False, "sum")
        self.calls.waited(work)
        self.assertEqual(self.problems(), [])
