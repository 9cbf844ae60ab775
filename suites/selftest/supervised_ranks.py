"""A test case for `Supervisor`: fake ranks that follow a script, on a fake clock."""

from __future__ import annotations

from harness.model.evidence import Snapshot
from harness.model.outcome import Failed, Passed, Problem, Raised
from harness.model.verdict import USUAL_EXIT
from harness.ranks.messages import Ready, Report, SnapshotAnswer, SnapshotRequest, Waits
from harness.ranks.watch import supervisor
from harness.ranks.watch.supervisor import Limits, Supervisor
from suites.selftest.fake_ranks import FakeTimeTestCase, FakeWorld, Script

START_S, BODY_S, EXIT_S = 10.0, 20.0, 5.0
FAILED = Failed((Problem("AssertionError", "1 != 2", "…", is_assertion=True),))
RAISED = Raised((Problem("ValueError", "no", "…", is_assertion=False),))
ECHO = Raised((Problem("RuntimeError", "Connection closed by peer", "…", is_assertion=False),))
PARKS = Waits((), True, {}, ())
CALL_S = 300.0


class SupervisorTestCase(FakeTimeTestCase):
    """Ranks 0 and 1, which are up at once; a test says what else they do, and when."""

    def setUp(self):
        super().setUp()
        self.begin()

    def begin(self, size=2, ready=True):
        self.world = FakeWorld(size)
        self.ranks = self.world.handles
        self.script = Script(self.clock, self.ranks)
        self.patch(supervisor, "readable", self.script.readable)
        if ready:
            self.say(0, range(size), Ready())

    def say(self, at_s, ranks, *messages):
        for rank in ranks if isinstance(ranks, range) else [ranks]:
            self.script.at(at_s, self.ranks[rank].say, *messages)

    def exit(self, at_s, rank, code=0):
        self.script.at(at_s, self.ranks[rank].exit, code)

    def passes(self, at_s, rank):
        self.say(at_s, rank, Report(Passed()))
        self.exit(at_s, rank)

    def answers(self, rank, snapshot=None):
        """Have a rank answer when it is asked what it does."""

        def answer(question):
            if isinstance(question, SnapshotRequest):
                return [SnapshotAnswer(question.round, snapshot or Snapshot())]
            return []

        self.ranks[rank].answer = answer

    def run_ranks(self, rule=USUAL_EXIT, **limits):
        """Watch the ranks; returns their outcomes."""
        limits = {"start_s": START_S, "body_s": BODY_S, "exit_s": EXIT_S} | limits
        self.supervisor = Supervisor(self.world, Limits(**limits), rule)
        return [report.outcome for report in self.supervisor.run()]

    @staticmethod
    def interrupt():
        raise KeyboardInterrupt

    def asked(self, rank, kind):
        return [message for message in self.ranks[rank].asked if isinstance(message, kind)]

    def ordered(self, rank, kind):
        return [message for message in self.ranks[rank].ordered if isinstance(message, kind)]
