"""The comparison of records: a pure function of what the ranks have called."""

from __future__ import annotations

import unittest

from harness.diagnosis.audit import audited, compare
from harness.diagnosis.matching import disagreement, mismatch
from harness.diagnosis.order_cycle import Wait, find_cycle
from harness.model.communication import Call, CommunicationRecord, LocalFault, group_key
from harness.model.evidence import Group
from harness.model.outcome import Passed, Place, Sabotaged
from harness.model.rank_report import RankReport
from harness.model.verdict import VerdictKind, judge

PAIR = group_key("0", (0, 1))
HERE = Place("test_x.py", 7, "test_it")
SUM = Call(PAIR, "all_reduce", ((4,),), ("float32",), reduction="SUM", where=HERE)
MAX = Call(PAIR, "all_reduce", ((4,),), ("float32",), reduction="MAX", where=HERE)
BARRIER = Call(PAIR, "barrier")


def send(peer, tag=0, size=4):
    return Call(PAIR, "send", ((size,),), ("float32",), peer=peer, tag=tag)


def recv(peer, tag=0, size=4):
    return Call(PAIR, "recv", takes=((size,),), take_dtypes=("float32",), peer=peer, tag=tag)


def record(*calls, **more):
    groups = {PAIR: Group((0, 1), "default_pg")}
    return CommunicationRecord(calls, tuple(range(len(calls))), groups=groups, **more)


def problems(*records, world_size=2):
    found = compare(dict(enumerate(records)), world_size)
    return [fault.problem for fault in found.faults]


class TestCollectives(unittest.TestCase):
    def test_equal(self):
        self.assertEqual(problems(record(SUM, BARRIER), record(SUM, BARRIER)), [])

    def test_the_first_difference_of_a_group_alone(self):
        first, second = record(SUM, SUM, BARRIER), record(SUM, MAX, SUM)
        self.assertEqual(
            problems(first, second), ["collective 2 of group default_pg: the reductions differ"]
        )

    def test_one_more(self):
        self.assertEqual(
            problems(record(SUM, BARRIER), record(SUM)),
            ["collective 2 of group default_pg: rank 1 does not call it"],
        )

    def test_nothing_after_an_operation_that_failed(self):
        self.assertEqual(problems(record(SUM, BARRIER, failed=(0,)), record(MAX)), [])

    def test_nothing_beyond_a_record_that_is_cut(self):
        self.assertEqual(problems(record(SUM, BARRIER), record(SUM, missing="it is cut")), [])

    def test_a_rank_without_a_record_is_a_gap(self):
        found = compare({0: record(SUM)}, 2)
        self.assertEqual(found.faults, ())
        self.assertIn("rank 1 left no record", found.gaps)

    def test_ranks_with_numbers_of_their_own_are_not_compared(self):
        ours = CommunicationRecord((SUM,), (0,), groups={PAIR: Group((7, 8))})
        self.assertEqual(problems(ours, CommunicationRecord()), [])


class TestMessages(unittest.TestCase):
    def test_in_any_order_of_tags(self):
        ours, theirs = record(send(1, 1), send(1, 2)), record(recv(0, 2), recv(0, 1))
        self.assertEqual(problems(ours, theirs), [])

    def test_in_the_order_of_one_tag(self):
        ours, theirs = record(send(1, size=2), send(1, size=4)), record(recv(0), recv(0, size=2))
        (problem,) = problems(ours, theirs)
        self.assertIn("the numbers of elements differ", problem)

    def test_from_any_rank(self):
        self.assertEqual(problems(record(send(1)), record(recv(None))), [])
        (problem,) = problems(record(), record(recv(None)))
        self.assertIn("1 receive of rank 1 from any rank", problem)

    def test_two_too_many(self):
        (problem,) = problems(record(send(1), send(1), send(1)), record(recv(0)))
        self.assertIn("2 sends from rank 0 to rank 1", problem)


class TestLocalFaults(unittest.TestCase):
    def test_of_several_ranks_at_once(self):
        unwaited = LocalFault("nobody waits for its Work", 0)
        both = record(SUM, faults=(unwaited,))
        (fault,) = compare({0: both, 1: both}, 2).faults
        self.assertEqual(fault.ranks, (0, 1))
        self.assertEqual(fault.problem, "all_reduce: nobody waits for its Work")

    def test_not_of_a_call_that_is_named_already(self):
        unwaited = LocalFault("nobody waits for its Work", 0)
        (problem,) = problems(record(SUM, faults=(unwaited,)), record())
        self.assertIn("does not call it", problem)


class TestMatching(unittest.TestCase):
    def test_parts_of_all_gather(self):
        first = Call(PAIR, "all_gather", ((1,),), ("int64",), ((1,), (2,)), ("int64",) * 2)
        second = Call(PAIR, "all_gather", ((2,),), ("int64",), ((1,), (2,)), ("int64",) * 2)
        self.assertEqual(mismatch([first, second]), "")
        self.assertIn("gives 2 elements", mismatch([second, second]))

    def test_lists_of_the_root_alone(self):
        root = Call(PAIR, "scatter", ((3,), (3,)), ("int64",) * 2, ((3,),), ("int64",), root=0)
        other = Call(PAIR, "scatter", (), (), ((3,),), ("int64",), root=0)
        self.assertEqual(mismatch([root, other]), "")
        wrong = Call(PAIR, "scatter", (), (), ((4,),), ("int64",), root=0)
        self.assertIn("rank 1 takes 4", mismatch([root, wrong]))

    def test_what_is_unknown_is_not_compared(self):
        known = Call(PAIR, "broadcast", ((2,),), ("int64",), root=1)
        self.assertEqual(disagreement([known, Call(PAIR, "broadcast", ((2,),), ("int64",))]), "")


class TestOrder(unittest.TestCase):
    MEMBERS = {"a": (0, 1), "b": (1, 2), "c": (2, 0)}

    def test_two_groups(self):
        programs = {0: [[("a", 0), ("x", 0)]], 1: [[("x", 0), ("a", 0)]]}
        self.assertEqual(
            set(find_cycle(programs, {"a": (0, 1), "x": (0, 1)})),
            {Wait(0, ("a", 0), 1), Wait(1, ("x", 0), 0)},
        )

    def test_three_groups(self):
        programs = {
            0: [[("a", 0), ("c", 0)]],
            1: [[("b", 0), ("a", 0)]],
            2: [[("c", 0), ("b", 0)]],
        }
        self.assertEqual({wait.rank for wait in find_cycle(programs, self.MEMBERS)}, {0, 1, 2})

    def test_another_order_without_a_cycle(self):
        programs = {
            0: [[("a", 0), ("c", 0)]],
            1: [[("a", 0), ("b", 0)]],
            2: [[("b", 0), ("c", 0)]],
        }
        self.assertEqual(find_cycle(programs, self.MEMBERS), ())

    def test_threads_of_a_rank_wait_for_themselves(self):
        programs = {0: [[("a", 0)], [("x", 0)]], 1: [[("x", 0), ("a", 0)]]}
        self.assertEqual(find_cycle(programs, {"a": (0, 1), "x": (0, 1)}), ())


class TestVerdict(unittest.TestCase):
    def reports(self, *outcomes):
        made = [record(SUM), record(MAX)]
        return [
            RankReport(rank, outcome, 0.0, communication=made[rank])
            for rank, outcome in enumerate(outcomes)
        ]

    def test_of_ranks_that_passed(self):
        verdict = audited(judge(self.reports(Passed(), Passed())))
        self.assertEqual(verdict.kind, VerdictKind.MISCOMMUNICATED)
        self.assertEqual(verdict.culprits, (0, 1))

    def test_a_warning_leaves_the_pass(self):
        verdict = audited(judge(self.reports(Passed(), Passed())), only_warns=True)
        self.assertEqual((verdict.kind, len(verdict.faults)), (VerdictKind.PASSED, 1))

    def test_no_audit_of_a_rank_that_was_killed_on_purpose(self):
        verdict = audited(judge(self.reports(Passed(), Sabotaged("killed"))))
        self.assertEqual(verdict.kind, VerdictKind.PASSED)
