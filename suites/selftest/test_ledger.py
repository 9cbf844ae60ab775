"""`Ledger`: what thread ranks have called on their groups, and who called something else."""

from __future__ import annotations

from harness.diagnosis.calls import call_text
from harness.model.communication import Call
from harness.model.errors import MismatchedCollectivesError
from harness.model.evidence import Group
from harness.model.outcome import Place
from harness.ranks.threads.ledger import Ledger
from suites.selftest.fake_ranks import FakeTimeTestCase

PLACE = Place("test_x.py", 7, "test_it", 5)
SUM = Call("0", "all_reduce", ((2,),), ("float32",), reduction="SUM")


class TestLedger(FakeTimeTestCase):
    def setUp(self):
        super().setUp()
        self.ledger = Ledger()
        self.ledger.open(1, "0", Group((0, 1), "default_pg"))

    def begin(self, rank, call=SUM, group=1):
        return self.ledger.begin(group, rank, call, (PLACE,))

    def assertMismatch(self, call, *texts):
        with self.assertRaises(MismatchedCollectivesError) as caught:
            self.begin(1, call)
        for text in texts:
            self.assertIn(text, str(caught.exception))

    def test_ranks_that_agree(self):
        for _ in range(3):
            self.begin(0)
            self.begin(1)
        self.assertEqual([call.seq for call in self.ledger.history(1)], [1, 2, 3])

    def test_another_operation(self):
        self.begin(0)
        self.begin(1)
        self.begin(0)
        self.assertMismatch(
            Call("0", "broadcast", ((2,),), ("float32",), root=0),
            "collective 2 of group",
            "broadcast root 0 float32 [2] on rank 1, but all_reduce SUM",
            "on rank 0",
        )

    def test_another_reduction_dtype_or_size(self):
        for other in (
            Call("0", "all_reduce", ((2,),), ("float32",), reduction="MAX"),
            Call("0", "all_reduce", ((2,),), ("int64",), reduction="SUM"),
            Call("0", "all_reduce", ((3,),), ("float32",), reduction="SUM"),
        ):
            with self.subTest(other=other):
                self.ledger = Ledger()
                self.ledger.open(1, "0", Group((0, 1)))
                self.begin(0)
                self.assertMismatch(other, call_text(other), call_text(SUM))

    def test_sizes_that_may_differ(self):
        self.begin(0, Call("0", "scatter", ((2,),), ("float32",)))
        self.begin(1, Call("0", "scatter", ((3,),), ("float32",)))

    def test_ranks_need_not_come_together(self):
        other = Call("0", "barrier")
        self.begin(0)
        self.begin(0, other)
        self.begin(1)
        self.begin(1, other)

    def test_groups_count_for_themselves(self):
        self.ledger.open(2, "1", Group((0, 1)))
        self.begin(0)
        self.begin(0, Call("0", "barrier"), group=2)
        self.begin(1, Call("0", "barrier"), group=2)
        self.begin(1)
        self.assertEqual(
            [(call.group, call.seq) for call in self.ledger.history(1)], [("1", 1), ("0", 1)]
        )

    def test_a_group_with_the_name_of_one_before(self):
        self.begin(0)
        self.ledger.open(2, "0", Group((0, 1)))
        self.begin(0, Call("0", "barrier"), group=2)
        self.begin(1, Call("0", "barrier"), group=2)
        self.begin(1)
        self.assertEqual(list(self.ledger.groups), ["0", "0 (2)"])

    def test_a_group_that_is_opened_by_each_member(self):
        self.ledger.open(1, "0", Group((0, 1)))
        self.assertEqual(self.ledger.groups, {"0": Group((0, 1), "default_pg")})

    def test_the_message_has_the_users_name_of_a_group(self):
        self.ledger = Ledger()
        self.ledger.open(1, "0", Group((0, 1), "pipeline"))
        self.begin(0)
        self.assertMismatch(Call("0", "barrier"), "group 'pipeline'")

    def test_what_is_pending_and_for_how_long(self):
        entry = self.begin(0)
        self.clock.time += 3
        (call,) = self.ledger.history(0)
        self.assertTrue(call.pending)
        self.assertEqual((call.waited_s, call.frames, call.op), (3, (PLACE,), "all_reduce"))
        self.ledger.end(entry)
        self.clock.time += 1
        (call,) = self.ledger.history(0)
        self.assertFalse(call.pending)
        (span,) = self.ledger.spans(0)
        start = self.clock.start
        self.assertEqual((span.began_s, span.ended_s, span.pending), (start, start + 3, False))

    def test_a_call_that_differs_stays_pending(self):
        self.begin(0)
        self.assertMismatch(Call("0", "barrier"), "barrier")
        self.assertEqual(
            [(call.op, call.pending) for call in self.ledger.history(1)], [("barrier", True)]
        )

    def test_only_the_last_calls_are_kept(self):
        for number in range(300):
            for rank in (0, 1):
                self.ledger.end(self.begin(rank, Call("0", f"call_{number}")))
        self.assertEqual([c.op for c in self.ledger.history(0)][::19], ["call_280", "call_299"])
        spans = self.ledger.spans(1)
        self.assertEqual((len(spans), spans[0].op, spans[-1].op), (200, "call_100", "call_299"))

    def test_a_rank_that_has_called_nothing(self):
        self.assertEqual((self.ledger.history(5), self.ledger.spans(5)), ((), ()))
