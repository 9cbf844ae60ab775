"""`LeaveGate`, which decides when ranks that have passed may close their connections."""

from dataclasses import dataclass, field

from harness.model.clock import NEVER
from harness.model.phase import Phase
from harness.ranks.messages import MayLeave
from harness.ranks.watch.leave_gate import LeaveGate
from suites.selftest.fake_ranks import FakeRank, FakeTimeTestCase


@dataclass
class Rank:
    phase: Phase = Phase.BODY
    sabotage: str = ""
    waits_to_leave: bool = False
    is_connecting: tuple | None = None
    handle: FakeRank = field(default_factory=lambda: FakeRank(0))

    def passes(self):
        self.phase, self.waits_to_leave = Phase.EXIT, True

    def answers(self, is_connecting):
        self.is_connecting = (self.handle.asked[-1].number, is_connecting)


class TestLeaveGate(FakeTimeTestCase):
    def setUp(self):
        super().setUp()
        self.ranks = [Rank(), Rank()]
        self.gate = LeaveGate(self.ranks)

    def advance(self, seconds=0.0, is_ending=False):
        self.clock.time += seconds
        self.gate.advance(is_ending)

    def may_leave(self, rank):
        return self.ranks[rank].handle.ordered == [MayLeave()]

    def test_all_at_once_when_the_last_body_has_ended(self):
        self.ranks[0].passes()
        self.advance()
        self.assertFalse(self.may_leave(0))
        self.ranks[1].passes()
        self.advance()
        self.assertTrue(self.may_leave(0) and self.may_leave(1))
        self.assertEqual(self.ranks[1].handle.asked, [])

    def test_a_peer_that_brings_up_a_group(self):
        self.ranks[0].passes()
        self.advance()
        self.advance(seconds=0.02)
        self.assertEqual(len(self.ranks[1].handle.asked), 1)
        self.ranks[1].answers(True)
        self.advance()
        self.assertFalse(self.may_leave(0))
        self.advance(seconds=0.1)
        self.assertEqual(len(self.ranks[1].handle.asked), 2)
        self.advance()
        self.assertFalse(self.may_leave(0))  # that was the answer to the question before
        self.ranks[1].answers(False)
        self.advance()
        self.assertTrue(self.may_leave(0))

    def test_an_answer_from_before_a_rank_came_does_not_count_for_it(self):
        # Rank 1 answers, enters new_group() with rank 2, and rank 2 is the first to come out.
        self.ranks.append(Rank())
        self.ranks[0].passes()
        self.advance()
        self.advance(seconds=0.02)
        self.ranks[1].answers(False)
        self.ranks[2].passes()
        self.advance()
        self.assertTrue(self.may_leave(0))
        self.assertFalse(self.may_leave(2))
        self.advance(seconds=0.02)
        self.assertEqual(len(self.ranks[1].handle.asked), 2)
        self.ranks[1].answers(True)
        self.advance()
        self.assertFalse(self.may_leave(2))
        self.ranks[1].passes()
        self.advance()
        self.assertTrue(self.may_leave(1) and self.may_leave(2))

    def test_not_for_a_rank_that_is_stopped_on_purpose(self):
        self.ranks[0].passes()
        self.ranks[1].sabotage = "stop"
        self.advance()
        self.assertTrue(self.may_leave(0))

    def test_not_in_a_test_that_is_being_ended(self):
        self.ranks[0].passes()
        self.advance(is_ending=True)
        self.assertTrue(self.may_leave(0))

    def test_a_rank_without_groups_is_told_nothing(self):
        self.ranks[0].phase = Phase.EXIT
        self.advance()
        self.assertFalse(self.may_leave(0))
        self.assertIs(self.gate.deadline, NEVER)
