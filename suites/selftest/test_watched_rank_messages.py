"""`WatchedRank`: snapshots, messages that cannot be read, and other messages."""

from __future__ import annotations

from harness.model.evidence import Collective, Group, Snapshot, ThreadStack, Waiting
from harness.model.expectation import Expectation
from harness.model.outcome import Lost, Passed
from harness.model.phase import Phase
from harness.model.timeline import CollectiveSpan
from harness.model.warning_data import IssuedWarning
from harness.ranks.messages import (
    AtMeeting,
    ConnectingAnswer,
    Goodbye,
    PhaseBegun,
    Ready,
    Report,
    Sabotage,
    SnapshotAnswer,
    TerminalRequest,
    TextProduced,
    WarningShown,
    WhereAnswer,
)
from suites.selftest.watched_ranks import FAILED, PLACE, RankTestCase


class TestUnreadable(RankTestCase):
    def assertUnreadable(self, *texts):
        self.assertIsInstance(self.rank.outcome, Lost)
        for text in ("cannot read its messages", *texts):
            self.assertIn(text, self.rank.outcome.reason)

    def test_what_is_no_message(self):
        for data in (
            {"kind": "Nonsense"},
            {"kind": "AtMeeting", "label": "x"},
            {"kind": "Report", "outcome": {"type": "Nonsense"}},
            {"kind": "Sabotage", "deed": 3},
            {"kind": "Leave"},  # a parent says this
        ):
            with self.subTest(data=data):
                self.begin()
                self.handle.say_data(data)
                self.assertTrue(self.rank.handle_messages())
                self.assertUnreadable(data["kind"])

    def test_what_follows_it_is_not_heard(self):
        self.handle.say_data({"kind": "Nonsense"})
        self.assertTrue(self.hear(Ready(), Report(Passed())))
        self.assertUnreadable("Nonsense")
        self.assertIs(self.rank.phase, Phase.START)
        self.assertIsNone(self.rank.reported)
        self.assertIsInstance(self.exit(0), Lost)

    def test_what_comes_before_it_is_heard(self):
        self.handle.say(Ready())
        self.handle.say_data({"kind": "Nonsense"})
        self.rank.handle_messages()
        self.assertIs(self.rank.phase, Phase.BODY)
        self.assertUnreadable()

    def test_a_long_one_is_cut(self):
        self.handle.say_data({"kind": "Nonsense", "text": "x" * 10_000})
        self.rank.handle_messages()
        self.assertLess(len(self.rank.outcome.reason), 1000)

    def test_bytes_that_are_no_frame(self):
        self.handle.fault = "a frame that is not JSON: b'hello'"
        self.assertTrue(self.rank.handle_messages())
        self.assertUnreadable("a frame that is not JSON: b'hello'")

    def test_such_bytes_of_a_rank_that_has_gone(self):
        self.outcome_after(Report(Passed()), code=0)
        self.handle.fault = "a frame that is not JSON: b'hello'"
        self.assertFalse(self.rank.handle_messages())
        self.assertEqual(self.rank.outcome, Passed())


def collective(seq):
    return Collective("0", seq, "all_reduce", "gloo", ((2,),), ("float32",), True, 1.0, 300.0)


BEFORE = Snapshot(
    threads=(ThreadStack("MainThread", (PLACE,)),),
    collectives=(collective(1), collective(2)),
    groups={"0": Group((0, 1))},
    waiting=Waiting("collective", "all_reduce"),
    cpu_s=1.0,
)
AFTER = Snapshot(threads=(ThreadStack("MainThread", ()),), collectives=(collective(9),), cpu_s=2.0)


class TestSnapshots(RankTestCase):
    def test_while_the_body_runs_the_last_one_counts(self):
        self.hear(Ready(), SnapshotAnswer(4, BEFORE))
        self.assertEqual(self.rank.snapshot, BEFORE)
        self.assertEqual(self.rank.answered_round, 4)
        self.hear(SnapshotAnswer(5, AFTER))
        self.assertEqual(self.rank.snapshot, AFTER)
        self.assertEqual(self.rank.answered_round, 5)

    def test_a_rank_that_cannot_tell_where_it_is(self):
        self.hear(Ready(), SnapshotAnswer(4, BEFORE), SnapshotAnswer(5, None))
        self.assertIsNone(self.rank.snapshot)
        self.assertEqual(self.rank.answered_round, 5)

    def test_while_it_leaves_what_it_had_called_stays(self):
        self.hear(Ready(), Report(FAILED, snapshot=BEFORE), SnapshotAnswer(4, AFTER))
        kept = self.rank.snapshot
        self.assertEqual(kept.collectives, BEFORE.collectives)
        self.assertEqual(kept.groups, BEFORE.groups)
        self.assertIsNone(kept.waiting)
        self.assertEqual(kept.threads, AFTER.threads)
        self.assertEqual(kept.cpu_s, AFTER.cpu_s)

    def test_if_it_had_called_nothing_what_it_calls_now_counts(self):
        report = Report(Passed(), snapshot=Snapshot(cpu_s=1.0))
        self.hear(Ready(), report, SnapshotAnswer(4, AFTER))
        self.assertEqual(self.rank.snapshot.collectives, AFTER.collectives)

    def test_while_it_leaves_no_answer_takes_away_what_is_known(self):
        self.hear(Ready(), Report(FAILED, snapshot=BEFORE), SnapshotAnswer(4, None))
        self.assertEqual(self.rank.snapshot, BEFORE)

    def test_a_report_brings_its_own(self):
        self.hear(Ready(), SnapshotAnswer(4, AFTER), Report(FAILED, snapshot=BEFORE))
        self.assertEqual(self.rank.snapshot, BEFORE)

    def test_spans_stay_until_there_are_others(self):
        spans = (CollectiveSpan("all_reduce", "0", 1, "float32 [2]", 1.0, None, True),)
        self.hear(Ready(), SnapshotAnswer(4, None, spans), Report(Passed()))
        self.assertEqual(self.rank.spans, spans)


class TestOtherMessages(RankTestCase):
    def test_each_is_kept(self):
        text = Expectation("test_x.py", 7, "test_it", "a", "b")
        warning = IssuedWarning("builtins:UserWarning", "careful", "test_x.py", 7)
        self.hear(
            Ready(),
            AtMeeting("a barrier", "1"),
            AtMeeting("a barrier", "2"),
            TerminalRequest(True),
            TerminalRequest(False),
            TextProduced(text),
            WarningShown(warning),
            ConnectingAnswer(7, True),
            PhaseBegun(Phase.BODY, 12.5),
            Sabotage("stop"),
            Goodbye(("json",)),
        )
        rank = self.rank
        self.assertEqual(rank.arrivals, [("a barrier", "1"), ("a barrier", "2")])
        self.assertEqual(rank.terminal_requests, [True, False])
        self.assertEqual(rank.expectations, [text])
        self.assertEqual(rank.warnings, [warning])
        self.assertEqual(rank.is_connecting, (7, True))
        self.assertEqual((rank.progress.phase, rank.progress.since_s), (Phase.BODY, 12.5))
        self.assertEqual(rank.sabotage, "stop")
        self.assertEqual(rank.imported, ("json",))
        self.assertTrue(rank.said_goodbye)

    def test_an_answer_to_where_it_is_ends_the_search(self):
        self.rank.is_asked_where = True
        self.hear(answer := WhereAnswer(Phase.BODY, 12.5, BEFORE))
        self.assertEqual(self.rank.position, answer)
        self.assertFalse(self.rank.is_asked_where)

    def test_answers_are_no_news_of_the_test(self):
        answers = [
            SnapshotAnswer(1, None),
            WhereAnswer(Phase.BODY, 12.5, BEFORE),
            ConnectingAnswer(1, False),
        ]
        self.assertFalse(self.hear())
        self.assertFalse(self.hear(*answers))
        self.assertTrue(self.hear(answers[0], Ready(), answers[1]))
