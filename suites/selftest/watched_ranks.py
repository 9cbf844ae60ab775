"""A test case for `WatchedRank`: a fake rank that says things, and what becomes of it."""

from __future__ import annotations

import signal
from dataclasses import replace

from harness.model.outcome import Failed, Place, Problem, Raised
from harness.ranks.messages import Ready
from harness.ranks.watch.watched_rank import WatchedRank
from suites.selftest.fake_ranks import FakeRank, FakeTimeTestCase

PLACE = Place("test_x.py", 7, "test_it", 5)
ASSERTION = Problem("AssertionError", "1 != 2", "…", is_assertion=True)
FAILED = Failed((ASSERTION,))
RAISED = Raised((replace(ASSERTION, type_name="ValueError", is_assertion=False),))
SIGNALS = (signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL, signal.SIGTERM)


class RankTestCase(FakeTimeTestCase):
    def setUp(self):
        super().setUp()
        self.begin()

    def begin(self, *, is_new=True):
        self.handle = FakeRank(3)
        self.handle.is_new = is_new
        self.rank = WatchedRank(self.handle)

    def hear(self, *messages):
        self.handle.say(*messages)
        return self.rank.handle_messages()

    def exit(self, code):
        self.handle.exit(code)
        self.rank.settle_by_exit(code)
        return self.rank.outcome

    def outcome_after(self, *messages, code):
        """Return the outcome of a new rank that says this and then exits."""
        self.begin()
        self.hear(Ready(), *messages)
        return self.exit(code)
