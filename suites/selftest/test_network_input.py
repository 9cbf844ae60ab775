"""Whatever comes over the network, each reader of it takes a message or names the fault.

    SELFTEST_EXAMPLES=10000 python run_tests.py suites/selftest/test_network_input.py -j 2

tries more of it than a run of all self-tests does.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import socket
import struct
import typing
import unittest
from unittest import mock

import hypothesis
from hypothesis import given
from hypothesis import strategies as st

from harness.model.clock import Deadline
from harness.model.errors import StartError, UsageError
from harness.model.surroundings import Surroundings
from harness.ranks.channel import FrameReader, encode
from harness.ranks.descriptors import readable
from harness.ranks.messages import FromRank, ToRank
from harness.ranks.outside_view import InspectionRequest
from harness.ranks.torchrun.admission import Arrival
from harness.ranks.torchrun.agent import Agent
from harness.ranks.torchrun.gathering import Gathering, Member
from harness.ranks.torchrun.handshake import Caller, NotProvenError, claim_of, prove, unsigned
from harness.ranks.torchrun.join_request import join_request_of
from harness.ranks.torchrun.links import Link
from harness.ranks.torchrun.messages import (
    Answer,
    ClockAnswer,
    ClockQuestion,
    FromAgent,
    InspectionAnswer,
    InspectionQuestion,
    JoinRequest,
    Leave,
    LeftoversAnswer,
    LeftoversQuestion,
    LogsAnswer,
    LogsQuestion,
    RankExited,
    ToAgent,
    from_joining,
)
from harness.ranks.torchrun.peer import Peer, gather
from harness.ranks.torchrun.remote_rank import RemoteRank
from harness.ranks.typed_message import to_data
from harness.ranks.watch.watched_rank import WatchedRank
from suites.selftest.secrets_of_worlds import SECRET, place_of

EXAMPLES = hypothesis.settings(
    max_examples=int(os.environ.get("SELFTEST_EXAMPLES", "200")),
    deadline=None,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 300),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["", "rank", "hello", "outcome", "1", "-1"]),
)
json_values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4)
    ),
    max_leaves=8,
)


def messages(union, parts=json_values) -> st.SearchStrategy:
    """Messages of these kinds, or others, with parts that may be right, missing, or not right."""
    kinds = {kind.__name__: kind.__struct_fields__ for kind in typing.get_args(union)}
    found = [
        st.fixed_dictionaries({"kind": st.just(name)}, optional=dict.fromkeys(fields, parts))
        for name, fields in {**kinds, "Unknown": ("world", "message")}.items()
    ]
    return st.one_of(found)


# What is right for many parts: a number, a text, a message, a question.
questions = st.sampled_from([ClockQuestion(), LogsQuestion(1, 2, 3), LeftoversQuestion(1, 0.0)])
sent_by_agents = messages(
    FromAgent, st.just(1) | st.just("") | messages(FromRank) | messages(Answer) | json_values
)
sent_by_rank_0 = messages(
    ToAgent, st.just(1) | st.just([]) | messages(ToRank) | questions.map(to_data) | json_values
)

bodies = st.one_of(
    st.binary(max_size=40),
    json_values.map(lambda value: encode({"kind": "x", "value": value})[8:]),
    st.sampled_from([b"[]", b"5", b"[" * 5000, b'{"kind":1}', b"{}"]),
)
frames = st.one_of(
    bodies.map(lambda body: struct.pack(">Q", len(body)) + body),
    st.binary(max_size=20),
    st.integers(0, 2**64 - 1).map(lambda size: struct.pack(">Q", size)),
)


@contextlib.contextmanager
def signals_restored():
    """What a process that keeps a rank does to its signals is for good."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    wakeup = signal.set_wakeup_fd(-1)
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in handlers.items():
            signal.signal(number, handler)


class NetworkTestCase(unittest.TestCase):
    @contextlib.contextmanager
    def pair(self):
        with contextlib.ExitStack() as stack:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            theirs = stack.enter_context(socket.create_connection(listener.getsockname()))
            ours = stack.enter_context(listener.accept()[0])
            yield ours, theirs

    @contextlib.contextmanager
    def link(self, sent):
        """A link that gets these messages, of which all have arrived."""
        with self.pair() as (ours, theirs):
            link = Link(ours.dup())
            try:
                theirs.sendall(b"".join(map(encode, sent)))
                readable([link.fd], Deadline.after(60.0))
                yield link
            finally:
                link.close()


class TestBytes(NetworkTestCase):
    @EXAMPLES
    @given(st.lists(frames, max_size=5), st.integers(1, 30))
    def test_frames(self, parts, size):
        data = b"".join(parts)
        size = max(size, len(data) // 50)
        found = []
        for read in (FrameReader.read, lambda reader: list(filter(None, [reader.read_one()]))):
            ours, theirs = socket.socketpair()
            with ours, theirs:
                reader = FrameReader(ours.fileno(), limit=10_000)
                heard = []
                for at in range(0, len(data), size):
                    if reader.closed:  # after a fault, and so nobody would take what is sent
                        break
                    theirs.sendall(data[at : at + size])
                    heard += read(reader)
                theirs.close()
                while not reader.closed:
                    heard += read(reader)
                found.append((heard, bool(reader.fault)))
        # A frame at a time, as many as there are, or all at once.
        self.assertEqual(found[0], found[1])
        for message in found[0][0]:
            self.assertIsInstance(message["kind"], str)

    @EXAMPLES
    @given(
        st.binary(max_size=120) | st.binary(max_size=120).map(lambda data: b"harness\x01" + data),
        st.integers(1, 120),
    )
    def test_at_the_door(self, data, size):
        with self.pair() as (ours, theirs):
            caller = Caller(ours, "127.0.0.1", SECRET)
            with self.assertRaises(NotProvenError):
                for at in range(0, len(data), size):
                    theirs.sendall(data[at : at + size])
                    readable([ours.fileno()], Deadline.after(60.0))
                    self.assertIsNone(caller.advance())
                theirs.shutdown(socket.SHUT_WR)
                readable([ours.fileno()], Deadline.after(60.0))
                self.assertIsNone(caller.advance())

    @EXAMPLES
    @given(st.binary(max_size=100), st.sampled_from([b"", b"harness\x01"]))
    def test_in_the_place_of_rank_0(self, data, start):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.sendall(start + data)
            theirs.shutdown(socket.SHUT_WR)
            with self.assertRaises(NotProvenError):
                prove(ours, SECRET, claim_of(place_of(1)), Deadline.after(60.0))

    @EXAMPLES
    @given(st.binary(max_size=100), st.text(max_size=10))
    def test_notes(self, data, name):
        self.assertIsNone(unsigned(SECRET, name, data))


class TestMessages(NetworkTestCase):
    @EXAMPLES
    @given(
        st.fixed_dictionaries(
            {},
            optional={
                name: json_values | st.just(value)
                for name, value in to_data(join_request_of(place_of(1), {"torch": "2"})).items()
            },
        ),
        st.integers(0, 3),
        st.integers(1, 3),
    )
    def test_join_requests(self, data, rank, size):
        try:
            self.assertIsInstance(from_joining(data), JoinRequest)
        except ValueError as error:
            self.assertNotIn("\n", str(error))
        own = join_request_of(place_of(0), {"torch": "2"})
        gathering = Gathering(place_of(0), own, mock.Mock(), SECRET)
        claim = claim_of(place_of(1))
        arrival = Arrival(
            mock.Mock(other_address="127.0.0.1"),
            type(claim)(rank, size, claim.run),
            data,
        )
        with contextlib.suppress(UsageError, StartError):
            gathering._add_member(arrival)
            self.assertEqual((rank, size), (1, 2))
            gathering._differences()
            gathering._links[1].other_address = "127.0.0.1"
            self.assertEqual([m.rank for m in gathering._members()], [0, 1])

    @EXAMPLES
    @given(st.lists(sent_by_agents | messages(FromRank), max_size=4))
    def test_from_an_agent(self, sent):
        with self.link([*sent, to_data(RankExited(1, 0, ""))]) as link:
            peer = Peer(Member(1, 1, 0, "beta", "", 0), link)
            rank = WatchedRank(RemoteRank(1, peer, 1))
            rank.handle_messages()
            self.assertIsNotNone(rank.handle.exit_code)
            rank.settle_by_exit(rank.handle.exit_code)
            self.assertIsNotNone(rank.outcome)
            if peer.is_lost and not peer.ended_by:
                self.assertIn("rank 0 cannot read what its process on beta sent", peer.why_lost)
            rank.handle.close()

    @EXAMPLES
    @given(
        st.sampled_from(
            [
                (ClockQuestion(), ClockAnswer),
                (InspectionQuestion(1, InspectionRequest()), InspectionAnswer),
                (LogsQuestion(1, 9, 9), LogsAnswer),
                (LeftoversQuestion(1, 0.0), LeftoversAnswer),
            ]
        ),
        messages(Answer, st.just(0.0) | st.just([]) | st.just({}) | json_values) | json_values,
        st.booleans(),
    )
    def test_answers(self, question_and_kind, answer, is_known):
        question, kind = question_and_kind
        with self.pair() as (ours, theirs):
            link = Link(ours.dup())
            peer = Peer(Member(1, 1, 0, "beta", "", 0), link)
            number = peer.ask(question)
            said = number if is_known else number + 1
            theirs.sendall(encode({"kind": "Answered", "number": said, "answer": answer}))
            theirs.shutdown(socket.SHUT_WR)
            found = gather({peer: number}, kind, Deadline.after(60.0))
            self.assertIn(type(found.get(peer)), (kind, type(None)))
            if not found and (answer is not None or not is_known):
                self.assertIn("rank 0 cannot read what its process on beta sent", peer.why_lost)
            link.close()

    @EXAMPLES
    @given(st.lists(sent_by_rank_0, max_size=4))
    def test_from_rank_0(self, sent):
        with self.link([*sent, to_data(Leave(3))]) as link, signals_restored():
            agent = Agent(link, place_of(1), Surroundings.now())
            told = io.StringIO()
            with contextlib.redirect_stderr(told):
                self.assertIn(agent.serve(), range(256))
            if link.fault and agent._code is None:
                self.assertIn("sent something that this process cannot read: ", told.getvalue())
            self.assertNotIn("Traceback", told.getvalue())


if __name__ == "__main__":
    unittest.main()
