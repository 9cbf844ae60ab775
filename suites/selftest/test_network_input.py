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
import unittest
from dataclasses import asdict
from unittest import mock

import hypothesis
from hypothesis import given
from hypothesis import strategies as st

from harness.model.clock import Deadline
from harness.model.errors import StartError, UsageError
from harness.model.surroundings import Surroundings
from harness.ranks.channel import FrameReader, encode
from harness.ranks.descriptors import readable
from harness.ranks.leftovers import Leftover
from harness.ranks.outside_view import Inspection
from harness.ranks.torchrun.admission import Arrival
from harness.ranks.torchrun.agent import Agent
from harness.ranks.torchrun.gathering import Gathering, Member
from harness.ranks.torchrun.handshake import Caller, NotProvenError, claim_of, prove, unsigned
from harness.ranks.torchrun.join_request import JoinRequest, join_request_from, join_request_of
from harness.ranks.torchrun.links import Link
from harness.ranks.torchrun.messages import ANSWERS, FROM_RANK_0, TO_RANK_0
from harness.ranks.torchrun.peer import Peer, gather
from harness.ranks.torchrun.remote_rank import RemoteRank
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
KINDS_OF_RANKS = (
    "hello", "outcome", "snapshot", "phase", "where", "connecting", "leaving", "goodbye", "parked",
    "awaits example", "meet", "terminal", "expectation", "warning", "sabotage",
)  # fmt: skip
PARTS_OF_RANKS = (
    "outcome", "snapshot", "spans", "round", "name", "at_s", "since_s", "value", "number", "where",
    "imported", "left", "is_clean", "positions", "remarks", "label", "wanted", "expectation",
    "warning", "deed", "waits", "method", "changes",
)  # fmt: skip
said_by_ranks = st.builds(
    lambda kind, parts: {**parts, "kind": kind},
    st.sampled_from(KINDS_OF_RANKS) | st.text(max_size=5),
    st.dictionaries(st.sampled_from(PARTS_OF_RANKS), json_values, max_size=6),
)


def messages(kinds) -> st.SearchStrategy:
    """Messages of these kinds, or others, with parts that may be of them, missing, or not right."""
    parts = sorted({name for rules in kinds.values() for name in rules})
    part = json_values | said_by_ranks | st.just(1)
    return st.builds(
        lambda kind, found: {**found, "kind": kind},
        st.sampled_from(sorted(kinds)) | st.text(max_size=5),
        st.fixed_dictionaries({}, optional=dict.fromkeys(parts, part)),
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
                for name, value in asdict(join_request_of(place_of(1), {"torch": "2"})).items()
            },
        )
        | json_values,
        st.integers(0, 3),
        st.integers(1, 3),
    )
    def test_cards(self, join_request, rank, size):
        try:
            self.assertIsInstance(
                join_request_from({"kind": "join", "card": join_request}), JoinRequest
            )
        except ValueError as error:
            self.assertNotIn("\n", str(error))
        own = join_request_of(place_of(0), {"torch": "2"})
        gathering = Gathering(place_of(0), own, mock.Mock(), SECRET)
        claim = claim_of(place_of(1))
        arrival = Arrival(
            mock.Mock(other_address="127.0.0.1"),
            type(claim)(rank, size, claim.run),
            {"kind": "join", "card": join_request},
        )
        with contextlib.suppress(UsageError, StartError):
            gathering._add_member(arrival)
            self.assertEqual((rank, size), (1, 2))
            gathering._differences()
            gathering._links[1].other_address = "127.0.0.1"
            self.assertEqual([m.rank for m in gathering._members()], [0, 1])

    @EXAMPLES
    @given(st.lists(messages(TO_RANK_0) | said_by_ranks, max_size=4))
    def test_from_a_process_that_keeps_a_rank(self, sent):
        with self.link([*sent, {"kind": "exited", "world": 1, "code": 0, "why": ""}]) as link:
            peer = Peer(Member(1, 1, 0, "beta", "", 0), link)
            rank = WatchedRank(RemoteRank(1, peer, 1))
            rank.handle_messages()
            self.assertIsNotNone(rank.handle.exit_code)
            rank.settle_by_exit(rank.handle.exit_code)
            self.assertIsNotNone(rank.outcome)
            if peer.is_lost and not peer.told_to_end:
                self.assertIn("rank 0 cannot read what its process on beta sent", peer.why_lost)
            rank.handle.close()

    @EXAMPLES
    @given(st.sampled_from(sorted(ANSWERS)), json_values, st.booleans())
    def test_answers(self, kind, value, is_known):
        with self.pair() as (ours, theirs):
            link = Link(ours.dup())
            peer = Peer(Member(1, 1, 0, "beta", "", 0), link)
            number = peer.ask(kind)
            said = number if is_known else number + 1
            theirs.sendall(encode({"kind": "answer", "number": said, "value": value}))
            theirs.shutdown(socket.SHUT_WR)
            told = gather({peer: number}, Deadline.after(60.0)).get(peer)
            if told and kind == "look":
                Inspection(told["state"], told["written"], tuple(told["native"]))
            for each in told or () if kind == "leftovers" else ():
                Leftover(host="beta", **each)
            link.close()

    @EXAMPLES
    @given(st.lists(messages(FROM_RANK_0), max_size=4))
    def test_from_rank_0(self, sent):
        with self.link([*sent, {"kind": "leave", "code": 3}]) as link, signals_restored():
            agent = Agent(link, place_of(1), Surroundings.now())
            told = io.StringIO()
            with contextlib.redirect_stderr(told):
                self.assertIn(agent.serve(), range(256))
            if link.fault:
                self.assertIn("sent what this process cannot read: ", told.getvalue())
            self.assertNotIn("Traceback", told.getvalue())


if __name__ == "__main__":
    unittest.main()
