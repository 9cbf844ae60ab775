"""`StatusRequests`: which ranks are asked where they are, and when the question is answered."""

from __future__ import annotations

import queue
import threading

from harness.model.clock import NEVER
from harness.model.evidence import Snapshot, ThreadStack
from harness.model.outcome import Passed, Place
from harness.model.phase import Phase
from harness.ranks.messages import Ready, Report, Waits, WhereAnswer, WhereRequest
from harness.ranks.watch import where
from harness.ranks.watch.watched_rank import WatchedRank
from harness.ranks.watch.where_answers import StatusRequests
from suites.selftest.fake_ranks import FakeRank, FakeTimeTestCase

LIMIT_S = 60.0
# Longer than a test waits for the answer.
ASKING_LIMIT_S = 2 * LIMIT_S
HERE = Snapshot((ThreadStack("MainThread", (Place("/x/test_model.py", 41, "test_sync"),)),))


class FakeWakeup:
    """A wakeup without a pipe.

    Attributes:
        was_set: set by the thread that asks.
    """

    fd = 77

    def __init__(self) -> None:
        self.was_set = threading.Event()

    def set(self) -> None:
        self.was_set.set()

    def clear(self) -> None:
        self.was_set.clear()


class TestStatusRequests(FakeTimeTestCase):
    def setUp(self):
        super().setUp()
        self.begin(FakeWakeup())

    def begin(self, wakeup):
        self.wakeup = wakeup
        self.patch(where, "wakeup", lambda: wakeup)
        self.handles = [FakeRank(0), FakeRank(1)]
        self.ranks = [WatchedRank(handle) for handle in self.handles]
        self.requests = StatusRequests(self.ranks)
        self.texts: queue.SimpleQueue = queue.SimpleQueue()
        for rank in (0, 1):
            self.say(rank, Ready())

    def say(self, rank, *messages):
        self.handles[rank].say(*messages)
        self.ranks[rank].handle_messages()

    def tell_where(self, rank, phase=Phase.BODY):
        self.say(rank, WhereAnswer(phase, self.clock.time - 2, HERE))

    def ask(self):
        """Ask in a thread, as the status thread does, until the loop has news of it."""
        thread = threading.Thread(
            target=lambda: self.texts.put(self.requests.status_text(ASKING_LIMIT_S))
        )
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(self.requests.close)  # it gets an answer then, at the latest
        self.assertTrue(self.wakeup.was_set.wait(LIMIT_S))
        self.requests.advance({self.wakeup.fd})

    @property
    def is_open(self):
        """Whether an answer is waited for."""
        return self.requests.deadline != NEVER

    def text(self):
        return self.texts.get(timeout=LIMIT_S)

    def asked(self, rank):
        return self.handles[rank].asked.count(WhereRequest())

    def test_it_is_answered_once_all_ranks_have_answered(self):
        self.ask()
        self.assertEqual([self.asked(0), self.asked(1)], [1, 1])
        self.tell_where(0)
        self.requests.advance(set())
        self.assertTrue(self.is_open)
        self.tell_where(1, Phase.TEAR_DOWN)
        self.requests.advance(set())
        self.assertEqual(
            self.text().split("\n"),
            [
                "  rank 0  running        /x/test_model.py:41 in test_sync   (body for 2.0 s)",
                "  rank 1  tearing down   /x/test_model.py:41 in test_sync   (tear-down for 2.0 s)",
            ],
        )
        self.assertFalse(self.is_open)
        self.requests.advance({self.wakeup.fd})
        self.assertEqual([self.asked(0), self.asked(1)], [1, 1])

    def test_a_rank_that_does_not_answer(self):
        self.ask()
        self.tell_where(0)
        self.assertEqual(self.requests.deadline.at, self.clock.time + 1.0)
        self.clock.time += 0.9
        self.requests.advance(set())
        self.assertTrue(self.is_open)
        self.clock.time += 0.2
        self.requests.advance(set())
        self.assertIn("rank 1  does not answer (sleeping)", self.text())

    def test_a_rank_whose_channel_is_full_is_not_waited_for(self):
        self.handles[1].ask = lambda message: False
        self.ask()
        self.tell_where(0)
        self.requests.advance(set())
        self.assertIn("rank 1  does not answer", self.text())

    def test_a_rank_that_dies_meanwhile_is_not_waited_for(self):
        self.ask()
        self.tell_where(0)
        self.ranks[1].settle_by_exit(-9)
        self.requests.advance(set())
        self.assertIn("rank 1  killed by SIGKILL", self.text())

    def test_a_rank_that_starts_is_not_asked(self):
        self.handles.append(FakeRank(2))
        self.handles[2].asked_s = self.clock.time - 3
        self.ranks.append(WatchedRank(self.handles[2]))
        self.requests = StatusRequests(self.ranks)
        self.ask()
        self.tell_where(0)
        self.tell_where(1)
        self.requests.advance(set())
        self.assertIn("rank 2  starting   (start for 3.0 s)", self.text())
        self.assertEqual(self.asked(2), 0)

    def test_a_rank_that_has_passed_is_asked_while_it_leaves(self):
        self.say(0, Report(Passed()))
        self.ask()
        self.assertEqual(self.asked(0), 1)

    def test_a_rank_that_waits_for_the_next_test_is_not_asked(self):
        self.say(0, Report(Passed()), Waits((), True, {}, ()))
        self.ask()
        self.assertEqual([self.asked(0), self.asked(1)], [0, 1])
        self.tell_where(1)
        self.requests.advance(set())
        self.assertIn("rank 0  passed", self.text())

    def test_two_questions_at_once_have_one_answer(self):
        self.ask()
        self.clock.time += 0.5
        self.ask()
        self.assertEqual([self.asked(0), self.asked(1)], [1, 1])
        self.assertEqual(self.requests.deadline.at, self.clock.time + 1.0)
        self.tell_where(0)
        self.tell_where(1)
        self.requests.advance(set())
        first = self.text()
        self.assertEqual((first, self.text()), (first, first))

    def test_an_answer_to_the_question_before_does_not_count(self):
        self.ask()
        self.tell_where(0)
        self.tell_where(1)
        self.requests.advance(set())
        self.text()
        self.ask()
        self.assertEqual([self.asked(0), self.asked(1)], [2, 2])
        self.assertTrue(self.is_open)
        self.tell_where(0)
        self.tell_where(1)
        self.requests.advance(set())
        self.assertIn("rank 0  running", self.text())

    def test_nobody_is_asked_unless_somebody_wants_to_know(self):
        self.requests.advance(set())
        self.requests.advance({self.wakeup.fd})  # for another world's sake
        self.assertEqual([self.asked(0), self.asked(1)], [0, 0])
        self.assertEqual(self.requests.deadline, NEVER)

    def test_the_loop_waits_for_it(self):
        self.assertEqual(self.requests.fds, [FakeWakeup.fd])
        self.ask()
        self.assertFalse(self.wakeup.was_set.is_set())

    def test_there_is_no_answer_when_the_ranks_are_done(self):
        self.ask()
        self.requests.close()
        self.assertIsNone(self.text())
        self.assertEqual((self.requests.fds, self.requests.deadline), ([], NEVER))
        self.assertIsNone(self.requests.status_text(ASKING_LIMIT_S))

    def test_nor_to_one_that_the_loop_has_not_heard_of(self):
        thread = threading.Thread(
            target=lambda: self.texts.put(self.requests.status_text(ASKING_LIMIT_S))
        )
        thread.start()
        self.assertTrue(self.wakeup.was_set.wait(LIMIT_S))
        self.requests.close()
        thread.join()
        self.assertIsNone(self.text())

    def test_who_asks_gives_up(self):
        self.assertIsNone(self.requests.status_text(0.0))

    def test_without_a_thread_that_asks(self):
        self.begin(None)
        self.assertEqual(self.requests.fds, [])
        self.assertIsNone(self.requests.status_text(ASKING_LIMIT_S))
        self.requests.advance(set())
        self.requests.close()
