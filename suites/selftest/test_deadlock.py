"""A deadlock is noticed early; a slow but sound test is never taken for one."""

from __future__ import annotations

import os
import unittest
from dataclasses import replace
from unittest import mock

from harness.diagnosis import snapshot
from harness.diagnosis.collectives import find_divergence
from harness.diagnosis.deadlock import has_not_moved, is_stuck
from harness.model.evidence import (
    Collective,
    Group,
    Snapshot,
    ThreadStack,
    Waiting,
)
from harness.model.outcome import Place
from suites.samples import slow
from suites.selftest.support import run_case

REMAINING_S = 300.0
FRAME = Place("t.py", 7, "test", 1)


def call(op, seq, pending=True, group="0", size=(2,), waited_s=1.0, timeout_s=330.0):
    return Collective(
        group, seq, op, "gloo", (size,), ("float32",), pending, waited_s, timeout_s, (FRAME,)
    )


def rank(*calls, size=2, kind="collective", peers=(), timeout_s=None, groups=None, threads=1):
    """A snapshot of a rank that waits in the last of these calls."""
    return Snapshot(
        threads=(ThreadStack("MainThread", (FRAME,)),) * threads,
        collectives=tuple(calls),
        groups=groups or {"0": Group(tuple(range(size)), "default_pg", 330.0)},
        waiting=Waiting(kind, kind, peers, timeout_s),
    )


def busy(*calls):
    return replace(rank(*calls), waiting=None)


class TestStuck(unittest.TestCase):
    def stuck(self, living, finished=(), size=None, remaining_s=REMAINING_S):
        living, finished = dict(enumerate(living)), dict(finished)
        return is_stuck(living, finished, size or len(living) + len(finished), remaining_s)

    def test_different_operations(self):
        self.assertTrue(self.stuck([rank(call("all_reduce", 1)), rank(call("broadcast", 1))]))

    def test_different_sizes(self):
        a, b = call("all_reduce", 1, size=(2,)), call("all_reduce", 1, size=(3,))
        self.assertTrue(self.stuck([rank(a), rank(b)]))

    def test_different_groups(self):
        groups = {"0": Group((0, 1), "", 330.0), "1": Group((0, 1), "", 330.0)}
        a, b = call("barrier", 1, group="0"), call("barrier", 1, group="1")
        self.assertTrue(self.stuck([rank(a, groups=groups), rank(b, groups=groups)]))

    def test_peer_has_finished_without_the_call(self):
        self.assertTrue(self.stuck([rank(call("barrier", 1))], {1: busy()}))

    def test_peer_has_finished_and_made_the_call(self):
        done = busy(call("broadcast", 1, pending=False))
        self.assertFalse(self.stuck([rank(call("broadcast", 1))], {1: done}))

    def test_the_same_operation_is_under_way(self):
        self.assertFalse(self.stuck([rank(call("barrier", 1)), rank(call("barrier", 1))]))

    def test_a_busy_peer(self):
        self.assertFalse(self.stuck([rank(call("barrier", 1)), busy()]))

    def test_a_busy_rank_of_another_group_keeps_all_from_being_stuck(self):
        ranks = [rank(call("all_reduce", 1)), rank(call("broadcast", 1)), busy()]
        self.assertFalse(self.stuck(ranks))

    def test_another_thread_may_make_the_call(self):
        ranks = [rank(call("barrier", 1)), rank(call("all_reduce", 1), threads=2)]
        self.assertFalse(self.stuck(ranks))

    def test_the_group_gives_up_before_the_test_does(self):
        a, b = call("all_reduce", 1, timeout_s=60), call("broadcast", 1)
        self.assertFalse(self.stuck([rank(a), rank(b)]))
        self.assertTrue(self.stuck([rank(a), rank(b)], remaining_s=50))

    def test_nothing_is_recorded_as_pending(self):
        self.assertFalse(self.stuck([rank(), rank(call("barrier", 1))]))

    def test_not_every_rank_is_accounted_for(self):
        self.assertFalse(self.stuck([rank(call("barrier", 1))], size=2))
        self.assertFalse(self.stuck([], size=2))

    def test_members_of_a_smaller_group(self):
        groups = {"0": Group((0, 1, 2), "", 330.0), "1": Group((0, 1), "", 330.0)}
        pair = [rank(call("barrier", 1, group="1"), groups=groups) for _ in range(2)]
        third = rank(call("barrier", 1, group="0"), groups=groups)
        self.assertFalse(self.stuck([*pair, third]))

    def test_both_receive(self):
        a, b = rank(kind="recv", peers=(1,)), rank(kind="recv", peers=(0,))
        self.assertTrue(self.stuck([a, b]))

    def test_send_meets_receive(self):
        a, b = rank(kind="recv", peers=(1,)), rank(kind="send", peers=(0,))
        self.assertFalse(self.stuck([a, b]))

    def test_receive_from_anybody(self):
        a, b = rank(kind="recv"), rank(kind="send", peers=(0,))
        self.assertFalse(self.stuck([a, b]))
        self.assertTrue(self.stuck([rank(kind="recv"), rank(kind="recv")]))

    def test_receive_from_a_busy_rank_and_from_one_that_has_finished(self):
        self.assertFalse(self.stuck([rank(kind="recv", peers=(1,)), busy()]))
        self.assertTrue(self.stuck([rank(kind="recv", peers=(1,))], {1: busy()}))

    def test_rendezvous(self):
        waits = rank(kind="rendezvous")
        self.assertFalse(self.stuck([waits, waits]))
        self.assertFalse(self.stuck([waits, busy()]))
        self.assertTrue(self.stuck([waits], {1: busy()}))
        self.assertTrue(self.stuck([waits, rank(call("barrier", 1))]))
        elsewhere = replace(waits, waiting=Waiting("meeting", "assertRanksAgree"))
        self.assertTrue(self.stuck([waits, elsewhere]))
        soon = rank(kind="rendezvous", timeout_s=30.0)
        self.assertFalse(self.stuck([soon], {1: busy()}))

    def test_a_rank_that_waits_for_a_processor(self):
        """Its call may have ended long since; nothing else tells on a busy machine."""
        parted = [rank(call("all_reduce", 1)), rank(call("broadcast", 1))]
        self.assertTrue(self.stuck(parted))
        self.assertFalse(self.stuck([replace(parted[0], is_runnable=True), parted[1]]))
        self.assertTrue(snapshot.take().is_runnable)

    def test_moved_or_not(self):
        before = {0: rank(call("barrier", 1))}
        self.assertTrue(has_not_moved(before, before, 1.0))
        self.assertFalse(has_not_moved(before, {0: rank(call("barrier", 2))}, 1.0))
        self.assertFalse(has_not_moved(before, {0: replace(before[0], cpu_s=0.5)}, 1.0))
        self.assertFalse(has_not_moved(before, {**before, 1: before[0]}, 1.0))


class TestParting(unittest.TestCase):
    def test_the_first_mismatch(self):
        same = call("all_reduce", 1, pending=False)
        parting = find_divergence(
            {0: rank(same, call("all_reduce", 2)), 1: rank(same, call("broadcast", 2))}
        )
        self.assertEqual((parting.seq, parting.description), (2, "default_pg"))
        self.assertTrue(parting.is_mismatch)
        self.assertEqual(
            {r: c.op for r, c in parting.calls.items()}, {0: "all_reduce", 1: "broadcast"}
        )

    def test_one_never_came(self):
        parting = find_divergence({0: rank(call("barrier", 1)), 1: busy()})
        self.assertFalse(parting.is_mismatch)
        self.assertIsNone(parting.calls[1])

    def test_what_has_ended_well_without_the_others_is_none(self):
        done = call("broadcast", 1, pending=False)
        self.assertIsNone(find_divergence({0: busy(done), 1: busy()}))
        self.assertIsNotNone(find_divergence({0: busy(done), 1: busy()}, broken={0}))

    def test_together(self):
        waits = rank(call("barrier", 1))
        self.assertIsNone(find_divergence({0: waits, 1: waits}))
        self.assertIsNone(find_divergence({}))

    def test_only_members_count(self):
        groups = {"1": Group((0, 1), "", 330.0)}
        pair = rank(call("barrier", 1, group="1"), groups=groups)
        self.assertIsNone(find_divergence({0: pair, 1: pair, 2: busy()}))

    def test_a_recorder_that_has_forgotten_the_beginning(self):
        long = [call("all_reduce", seq, pending=False) for seq in range(1, 10)]
        parting = find_divergence(
            {
                0: rank(*long, call("all_reduce", 10)),
                1: rank(*long[5:], call("broadcast", 10)),
            }
        )
        self.assertEqual(parting.seq, 10)

    def test_the_oldest_of_several(self):
        groups = {"0": Group((0, 1), "a", 330.0), "1": Group((0, 1), "b", 330.0)}
        one = rank(
            call("all_reduce", 1, group="1", waited_s=1),
            call("barrier", 5, waited_s=9),
            groups=groups,
        )
        parting = find_divergence({0: one, 1: replace(one, collectives=())})
        self.assertEqual(parting.description, "a")


# As short as makes sense: it is looked at fifteen times in each of the tests.
CONFIRM_S = "0.1"


def _slow_tests(namespace):
    for cls in (slow.SlowButSound, slow.FourRanks):
        for name in unittest.defaultTestLoader.getTestCaseNames(cls):

            def test(self, cls=cls, name=name):
                with mock.patch.dict(os.environ, HARNESS_DEADLOCK_AFTER=CONFIRM_S):
                    result = run_case(cls, name)
                self.assertEqual(result.status, "passed", result.text)

            namespace[name] = test


class TestSlowButSound(unittest.TestCase):
    """Slow: each lets ranks wait for seconds, which is what it is about."""

    _slow_tests(vars())
