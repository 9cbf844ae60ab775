"""`Agent`: what it does for rank 0, and how it ends, with a fake link and fake ranks."""

from __future__ import annotations

import contextlib
import io
import os
import signal
from unittest import mock

from harness.model.outcome import Passed
from harness.model.surroundings import Surroundings
from harness.ranks.leftovers import Leftover
from harness.ranks.messages import Leave as LeaveRank
from harness.ranks.messages import NoMoreExamples, Ready, Report
from harness.ranks.outside_view import Inspection, InspectionRequest
from harness.ranks.torchrun import agent as agents
from harness.ranks.torchrun.agent import Agent
from harness.ranks.torchrun.messages import (
    Answered,
    Asked,
    ClockAnswer,
    ClockQuestion,
    CloseWorld,
    Ending,
    ForRank,
    InspectionAnswer,
    InspectionQuestion,
    Leave,
    LeftoversAnswer,
    LeftoversQuestion,
    Preload,
    RankExited,
    RankSent,
    RankStarted,
    RankUnreadable,
    RemoteTest,
    RunNextExample,
    RunNextTest,
    SignalRank,
    StartRank,
)
from harness.ranks.torchrun.process_changes import changes
from harness.ranks.world import TERM_GRACE_S
from suites.selftest.fake_ranks import FakeRank, FakeTimeTestCase, FakeWorld, Script
from suites.selftest.secrets_of_worlds import place_of
from suites.selftest.test_pool import SPEC

LINK_FD = 300_000
BASE = Surroundings({"HOME": "/home/agent"}, "/work", ("/work",), ("run.py",))
TEST = RemoteTest(SPEC, changes(BASE, BASE))


class FakeLink:
    """A connection to rank 0 that says what a test has it say.

    Attributes:
        sent: what the agent has sent.
    """

    fd = LINK_FD
    own_address = other_address = "10.0.0.1"

    def __init__(self) -> None:
        self.sent = []
        self.closed = self.fell_silent = False
        self.fault = ""
        self._unheard = []

    def say(self, *messages) -> None:
        self._unheard += messages

    def close(self, **how) -> None:
        self.closed = True
        vars(self).update(how)

    def ready_fds(self) -> set[int]:
        return {self.fd} if self._unheard or self.closed else set()

    def messages(self, convert):
        heard, self._unheard = self._unheard, []
        return heard

    def send(self, message) -> None:
        self.sent.append(message)


class HostedFakeWorld(FakeWorld):
    """A world that begins with the one rank of its agent.

    Attributes:
        begun: the spec that it began with.
        orders: what its rank was told to go on with.
        requests: which inspections it was asked for.
        graces: how long its rank was given to end.
    """

    def __init__(self, folder: str, sources: list) -> None:
        super().__init__(0, folder)
        self.orders, self.requests, self.graces = [], [], []
        self._sources = sources

    def begin(self, spec, factory, ranks):
        self.begun = spec
        self.handles = [FakeRank(rank) for rank in ranks]
        self._sources += self.handles
        return self

    def end(self, grace_s):
        self.graces.append(grace_s)
        return super().end(grace_s)

    def resume(self, order):
        self.orders.append(order)

    def inspect(self, requests):
        self.requests.append(requests)
        return {rank: Inspection("sleeping") for rank in requests}


class FakeSignals:
    """Stands in for the module `signal`: a test delivers the signals."""

    SIGTERM, SIGINT = signal.SIGTERM, signal.SIGINT

    def __init__(self) -> None:
        self.handlers = {}
        self.wakeup_fd = self.read_fd = -1
        self._has_news = False

    def signal(self, number, handler) -> None:
        self.handlers[number] = handler

    def set_wakeup_fd(self, fd, warn_on_full_buffer=True) -> None:
        self.wakeup_fd = fd

    def deliver(self, number) -> None:
        os.write(self.wakeup_fd, b"!")
        self._has_news = True
        self.handlers[number](number, None)

    def ready_fds(self) -> set[int]:
        news, self._has_news = self._has_news, False
        return {self.read_fd} if news else set()


class AgentTestCase(FakeTimeTestCase):
    """An agent of rank 1; a test says what rank 0 and the rank do, and when."""

    def setUp(self):
        super().setUp()
        self.link, self.signals = FakeLink(), FakeSignals()
        self.sources = [self.link, self.signals]
        self.script = Script(self.clock, self.sources)
        self.worlds = []
        self.launcher = mock.Mock()
        self.folders = mock.Mock()
        self.folders.new_test_folder.return_value = "/nonexistent/agent"
        self.folders.temp_folder.return_value = "/nonexistent/agent/tmp"
        self.patch(agents, "World", self.new_world)
        self.patch(agents, "launcher", lambda: self.launcher)
        self.patch(agents, "folders", self.folders)
        self.patch(agents, "signal", self.signals)
        self.patch(agents, "readable", self.readable)

    def readable(self, descriptors, deadline):
        self.signals.read_fd = descriptors[0]
        return self.script.readable(descriptors, deadline)

    def new_world(self, folder):
        self.worlds.append(HostedFakeWorld(folder, self.sources))
        return self.worlds[-1]

    @property
    def rank(self):
        return self.worlds[-1].handles[0]

    def on_rank(self, at_s, action, *args):
        """Have the agent's rank do this then."""
        self.script.at(at_s, lambda: getattr(self.rank, action)(*args))

    def serve(self, *messages):
        """Start a rank, hear these messages a second later, and serve until the agent ends."""
        self.script.at(0, self.link.say, StartRank(5, 1, TEST))
        self.script.at(1, self.link.say, *messages)
        self.script.at(9, self.link.say, Leave(0))
        self.printed = io.StringIO()
        with contextlib.redirect_stderr(self.printed):
            return Agent(self.link, place_of(1), BASE).serve()

    def answers(self, *questions):
        """The answers to these questions about the world, in a run that ends well."""
        self.serve(*(Asked(number, question) for number, question in enumerate(questions, 1)))
        answered = [message for message in self.link.sent if isinstance(message, Answered)]
        self.assertEqual([message.number for message in answered], [*range(1, len(questions) + 1)])
        return [message.answer for message in answered]

    def exits(self):
        return [message for message in self.link.sent if isinstance(message, RankExited)]


class TestRanks(AgentTestCase):
    def test_it_starts_one(self):
        self.assertEqual(self.serve(), 0)
        self.assertEqual(self.link.sent, [RankStarted(5, 5001)])
        (world,) = self.worlds
        self.assertEqual([handle.rank for handle in world.handles], [1])
        self.launcher.need.assert_called_once_with(["test_x"])

    def test_with_what_is_its_own(self):
        self.serve()
        spec = self.worlds[0].begun
        self.assertEqual(spec.surroundings.environ["HOME"], "/home/agent")
        self.assertEqual(spec.surroundings.cwd, "/work")
        self.assertEqual((spec.world_folder, spec.store_host), ("/nonexistent/agent", "10.0.0.1"))

    def test_it_forwards_what_it_says(self):
        self.on_rank(1, "say", Ready())
        self.on_rank(2, "say", Report(Passed()))
        self.serve()
        self.assertEqual(self.link.sent[1:], [RankSent(5, Ready()), RankSent(5, Report(Passed()))])

    def test_it_tells_the_exit_code_after_the_last_words(self):
        self.on_rank(2, "exit", 3, [Report(Passed())])
        self.serve()
        wanted = [RankSent(5, Report(Passed())), RankExited(5, 3, "")]
        self.assertEqual(self.link.sent[1:], wanted)

    def test_an_exit_code_that_nobody_knows(self):
        self.script.at(1.5, lambda: setattr(self.rank, "lost", "the server died"))
        self.on_rank(2, "exit", 255)
        self.serve()
        self.assertEqual(
            self.exits(), [RankExited(5, None, "the fork server died, so its exit code is unknown")]
        )

    def test_what_is_no_message_is_told_once(self):
        def garble():
            self.rank.fault = "not JSON"
            self.rank.exit(-9)

        self.script.at(2, garble)
        self.serve()
        self.assertEqual(self.link.sent[1:], [RankUnreadable(5, "not JSON"), RankExited(5, -9, "")])

    def test_one_that_cannot_be_started(self):
        self.launcher.factory.side_effect = OSError("no more processes")
        self.assertEqual(self.serve(RunNextTest(5, TEST)), 0)
        why = "it could not be started: OSError: no more processes"
        self.assertEqual(self.link.sent, [RankExited(5, None, why)])
        self.assertIn("Traceback", self.printed.getvalue())
        self.assertTrue(self.worlds[0].is_closed)

    def test_no_folder_for_it(self):
        self.folders.new_test_folder.side_effect = OSError("disk full")
        self.assertEqual(self.serve(), 0)
        why = "it could not be started: OSError: disk full"
        self.assertEqual(self.link.sent, [RankExited(5, None, why)])
        self.assertEqual(self.worlds, [])


class TestRequests(AgentTestCase):
    def test_another_test(self):
        self.serve(RunNextTest(5, TEST))
        (spec,) = self.worlds[0].ran
        self.assertEqual(spec.world_folder, "/nonexistent/agent")

    def test_another_example(self):
        self.serve(RunNextExample(5, NoMoreExamples()))
        self.assertEqual(self.worlds[0].orders, [NoMoreExamples()])

    def test_a_message_for_the_rank(self):
        self.serve(ForRank(5, LeaveRank()))
        self.assertEqual(self.rank.ordered, [LeaveRank()])

    def test_a_signal_for_the_rank(self):
        self.serve(SignalRank(5, signal.SIGSTOP))
        self.assertEqual(self.rank.signals, [signal.SIGSTOP])

    def test_a_rank_that_has_ended_gets_none(self):
        """Its process id may be that of another process by then."""
        self.on_rank(0.5, "exit", 0)
        self.serve(SignalRank(5, signal.SIGKILL))
        self.assertEqual(self.rank.signals, [])

    def test_modules_to_preload(self):
        self.serve(Preload(("numpy",)))
        self.launcher.learn.assert_called_once_with(("numpy",))

    def test_the_clock(self):
        self.assertEqual(self.answers(ClockQuestion()), [ClockAnswer(self.clock.start + 1)])

    def test_an_inspection(self):
        request = InspectionRequest(stacks=True)
        found = self.answers(InspectionQuestion(5, request))
        self.assertEqual(found, [InspectionAnswer(Inspection("sleeping"))])
        self.assertEqual(self.worlds[0].requests, [{1: request}])

    def test_leftovers(self):
        left = Leftover(77, "sleep 60", 1)
        self.script.at(0.5, lambda: self.worlds[0].leftovers.append(left))
        self.assertEqual(self.answers(LeftoversQuestion(5, 0.5)), [LeftoversAnswer((left,))])

    def test_messages_about_a_world_that_is_closed(self):
        """Messages cross: they have no effect, but questions are answered."""
        self.serve(
            CloseWorld(5),
            SignalRank(5, signal.SIGTERM),
            RunNextTest(5, TEST),
            CloseWorld(5),
            Asked(1, LeftoversQuestion(5, 0.0)),
        )
        self.assertEqual(self.link.sent[1:], [Answered(1, None)])
        self.assertEqual((self.rank.signals, self.worlds[0].ran), ([], []))

    def test_a_world_is_closed_with_all_that_is_left(self):
        self.serve(CloseWorld(5))
        (world,) = self.worlds
        self.assertTrue(world.is_closed)
        self.assertEqual((world.killed, world.graces), ([1], [TERM_GRACE_S]))
        self.folders.remove.assert_called_once_with("/nonexistent/agent")
        self.assertEqual(self.exits(), [])


class TestTheEnd(AgentTestCase):
    def test_rank_0_says_so(self):
        self.assertEqual(self.serve(Leave(3), Preload(("late",))), 3)
        self.launcher.learn.assert_not_called()
        self.assertEqual(self.clock.elapsed_s, 1)
        self.assertTrue(self.worlds[0].is_closed)
        self.assertEqual((self.printed.getvalue(), self.signals.wakeup_fd), ("", -1))

    def test_rank_0_has_gone(self):
        for how, why in (
            ({}, "its process has ended"),
            ({"fell_silent": True}, "no sign of life"),
            ({"fault": "not JSON"}, "it sent something that this process cannot read: not JSON"),
        ):
            with self.subTest(why):
                self.setUp()
                self.script.at(2, lambda how=how: self.link.close(**how))
                self.assertEqual(self.serve(), 1)
                self.assertIn(
                    f"rank 1: the connection to rank 0 is gone ({why})", self.printed.getvalue()
                )
                self.assertTrue(self.worlds[0].is_closed)
                self.assertEqual(self.clock.elapsed_s, 2)

    def test_a_signal(self):
        """The agent informs rank 0, which chooses the exit code, before it ends its ranks."""
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(number):
                self.setUp()
                self.script.at(2, self.signals.deliver, number)
                self.script.at(3, self.link.say, Leave(4))
                self.assertEqual(self.serve(), 4)
                self.assertEqual(self.link.sent[1:], [Ending(number)])
                self.assertEqual(self.worlds[0].killed, [1])
                self.assertEqual(self.clock.elapsed_s, 3)

    def test_ranks_are_ended_while_rank_0_has_not_answered(self):
        self.script.at(2, self.signals.deliver, signal.SIGTERM)
        self.script.at(3, lambda: self.assertTrue(self.worlds[0].is_closed))
        self.script.at(4, self.link.say, Leave(4))
        self.assertEqual(self.serve(), 4)

    def test_a_rank_that_has_ended_needs_no_time_for_it(self):
        self.on_rank(1, "exit", 0)
        self.serve()
        self.assertEqual((self.worlds[0].killed, self.worlds[0].graces), ([], [0.0]))

    def test_of_two_signals_the_first_one_is_told(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            self.script.at(2, self.signals.deliver, number)
        self.script.at(3, self.link.say, Leave(4))
        self.assertEqual(self.serve(), 4)
        self.assertEqual(self.link.sent[1:], [Ending(signal.SIGTERM)])

    def test_a_second_signal_changes_nothing(self):
        self.script.at(2, self.signals.deliver, signal.SIGTERM)
        self.script.at(3, self.signals.deliver, signal.SIGINT)
        self.script.at(4, self.link.say, Leave(4))
        self.assertEqual(self.serve(), 4)
        self.assertEqual(self.link.sent[1:], [Ending(signal.SIGTERM)])

    def test_a_signal_and_rank_0_does_not_answer(self):
        self.script.at(2, self.signals.deliver, signal.SIGTERM)
        self.assertEqual(self.serve(), 1)
        self.assertEqual(self.clock.elapsed_s, 2 + agents._LEAVING_S)
        self.assertEqual(self.printed.getvalue(), "")
