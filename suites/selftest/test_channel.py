"""Channels: each frame arrives once, however the kernel cuts it up, and a fault is reported."""

from __future__ import annotations

import os
import queue
import socket
import struct
import threading
import unittest
from dataclasses import replace
from multiprocessing.connection import Connection
from unittest import mock

from harness.model.clock import Deadline
from harness.model.evidence import Snapshot
from harness.model.outcome import Passed
from harness.model.phase import Phase
from harness.model.timeline import CollectiveSpan
from harness.ranks.channel import FrameReader, FrameWriter, encode
from harness.ranks.child import listener as child_listener
from harness.ranks.child.rank_pipe import RankPipe
from harness.ranks.descriptors import OwnDescriptor, readable
from harness.ranks.messages import (
    ConnectingAnswer,
    ConnectingRequest,
    Goodbye,
    Leave,
    MayLeave,
    MeetingAnswer,
    PhaseBegun,
    Ready,
    Report,
    Sabotage,
    ToRank,
    WhereAnswer,
    from_rank,
)
from harness.ranks.torchrun.gathering import Member
from harness.ranks.torchrun.links import Link
from harness.ranks.torchrun.messages import (
    Answered,
    ClockAnswer,
    ClockQuestion,
    CloseWorld,
    RankSent,
    Welcome,
    to_agent,
)
from harness.ranks.torchrun.peer import Peer, gather
from harness.ranks.torchrun.remote_rank import RemoteRank
from harness.ranks.typed_message import frame
from harness.runner.selection.planned_test import Found
from harness.runner.workers import messages as worker_messages
from harness.runner.workers import worker_main
from harness.runner.workers.worker_pool import WorkerPool


class TestChannel(unittest.TestCase):
    def test_a_reader_that_takes_nothing_is_not_waited_for(self):
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        self.addCleanup(os.close, writing)
        os.set_blocking(writing, False)
        writer = FrameWriter(writing, stall_s=0.01)
        with self.assertRaisesRegex(TimeoutError, "does not read"):
            writer.send({"text": "x" * 1_000_000})
        os.read(reading, 1_000_000)
        # What came now would be taken for the rest of that frame.
        with self.assertRaisesRegex(TimeoutError, "sent only in part"):
            writer.send({"kind": "met"})
        self.assertFalse(writer.send_at_once({"kind": "report"}))


class TestReaders(unittest.TestCase):
    """Whatever the kernel makes of the writes of the other side, each frame arrives once."""

    MESSAGES = [{"kind": "a"}, {"kind": "b", "text": "x" * 300}, {"kind": "c"}]

    def setUp(self):
        ours, self.theirs = socket.socketpair()
        self.addCleanup(self.theirs.close)
        self.addCleanup(ours.close)
        self.ours = ours
        self.frames = b"".join(encode(message) for message in self.MESSAGES)

    def in_bytes(self):
        """The frames again, a byte at a time; each is there before the reader looks."""
        for number in range(len(self.frames)):
            self.theirs.sendall(self.frames[number : number + 1])
            yield

    def test_all_that_came_in_one_write(self):
        self.theirs.sendall(self.frames)
        reader = FrameReader(self.ours.fileno())
        self.assertEqual(reader.read(), self.MESSAGES)
        self.assertEqual(reader.read(), [])
        self.assertFalse(reader.closed)

    def test_all_in_writes_of_a_byte(self):
        reader = FrameReader(self.ours.fileno())
        found = [message for _ in self.in_bytes() for message in reader.read()]
        self.assertEqual(found, self.MESSAGES)

    def test_one_at_a_time_leaves_the_descriptor_readable(self):
        self.theirs.sendall(self.frames)
        reader = FrameReader(self.ours.fileno())
        found = []
        while readable([self.ours.fileno()], Deadline.after(0.0)):
            found.append(reader.read_one())
        self.assertEqual(found, self.MESSAGES)

    def test_one_at_a_time_in_writes_of_a_byte(self):
        reader = FrameReader(self.ours.fileno())
        found = [reader.read_one() for _ in self.in_bytes()]
        self.assertEqual([message for message in found if message], self.MESSAGES)

    def test_one_and_then_all(self):
        for first in range(len(self.MESSAGES) + 1):
            with self.subTest(first):
                self.theirs.sendall(self.frames)
                reader = FrameReader(self.ours.fileno())
                found = [reader.read_one() for _ in range(first)]
                self.assertEqual(found + reader.read(), self.MESSAGES)

    def test_the_last_frames_before_the_end(self):
        for read in (FrameReader.read, lambda reader: [reader.read_one() for _ in self.MESSAGES]):
            ours, theirs = socket.socketpair()
            with ours, theirs:
                theirs.sendall(self.frames + b"half")
                theirs.shutdown(socket.SHUT_WR)
                reader = FrameReader(ours.fileno())
                self.assertEqual(read(reader), self.MESSAGES)
                self.assertEqual((reader.read(), reader.closed, reader.fault), ([], True, ""))

    def test_what_is_no_message(self):
        for body, told in (
            (b"[]", "not a message with a kind: b'[]'"),
            (b"5", "not a message with a kind"),
            (b"{}", "not a message with a kind"),
            (b'{"kind": 1}', "not a message with a kind"),
            (b"[" * 200_000, f"not JSON: b'{'[' * 40}'…"),
            (b'{"a":' * 200_000, "not JSON"),
            (b"", "not JSON: b''"),
            (b"\xff\xfe", "not JSON"),
        ):
            with self.subTest(body[:20]):
                ours, theirs = socket.socketpair()
                with ours, theirs:
                    writer = threading.Thread(
                        target=theirs.sendall,
                        args=(encode({"kind": "ok"}) + struct.pack(">Q", len(body)) + body,),
                    )
                    writer.start()
                    reader = FrameReader(ours.fileno())
                    found = []
                    while not reader.closed and readable([reader.fd], Deadline.after(60.0)):
                        found += reader.read()
                    writer.join()
                    self.assertEqual(found, [{"kind": "ok"}])
                    self.assertIn(told, reader.fault)

    def test_a_frame_longer_than_any(self):
        reader = FrameReader(self.ours.fileno(), limit=1000)
        self.theirs.sendall(encode({"kind": "ok"}) + struct.pack(">Q", 1001))
        self.assertEqual(reader.read(), [{"kind": "ok"}])
        self.assertTrue(reader.closed)
        self.assertEqual(reader.fault, "a frame of 1001 bytes; the limit is 1000")

    def test_the_listener_of_a_rank(self):
        """Orders that come together with questions."""
        said: list[ToRank] = [MeetingAnswer(0, ("x" * 300,)), MayLeave(), Leave()]
        frames = b"".join(map(frame, said))
        ours = Connection(os.dup(self.ours.fileno()))
        self.addCleanup(ours.close)
        pipe = RankPipe(ours)
        self.addCleanup(pipe._channel.forget)
        orders = pipe.orders
        child_listener.start(mock.Mock(pipe=pipe))
        self.theirs.sendall(frame(ConnectingRequest(7)) + frames)
        self.assertEqual([orders.get(timeout=60) for _ in said], said)
        reader = FrameReader(self.theirs.fileno())
        readable([reader.fd], Deadline.after(60.0))
        answers = [from_rank(message) for message in reader.read()]
        self.assertEqual(answers, [ConnectingAnswer(7, value=False)])
        self.theirs.setblocking(True)
        for byte in frames:
            self.theirs.sendall(bytes([byte]))
        self.assertEqual([orders.get(timeout=60) for _ in said], said)
        self.theirs.shutdown(socket.SHUT_RDWR)
        self.assertIsNone(orders.get(timeout=60))

    def test_the_listener_of_a_worker(self):
        ours = Connection(os.dup(self.ours.fileno()))
        self.addCleanup(ours.close)
        worker = worker_main._Worker.__new__(worker_main._Worker)
        worker._connection, worker._orders, worker._is_canceled = ours, queue.SimpleQueue(), False
        worker._channel = OwnDescriptor(ours.fileno(), "the channel")
        self.addCleanup(worker._channel.forget)
        listener = threading.Thread(target=worker._listen)
        listener.start()
        test = worker_messages.TestToRun(("m", "m.C.test", 0), 0, 0, ("x" * 300,))
        said = [
            worker_messages.Discover(),
            worker_messages.RunTests((test,)),
            worker_messages.TearDown(),
        ]
        frames = b"".join(map(frame, said))
        self.theirs.sendall(frame(worker_messages.CancelTests()) + frames)
        self.assertEqual([worker._orders.get(timeout=60) for _ in said], said)
        self.assertTrue(worker._is_canceled)
        for byte in frames:
            self.theirs.sendall(bytes([byte]))
        self.theirs.shutdown(socket.SHUT_RDWR)
        listener.join()
        found = [worker._orders.get(timeout=60) for _ in said]
        self.assertEqual([*found, worker._orders.get(timeout=60)], [*said, None])

    def test_what_a_worker_says_together_with_its_plan(self):
        plan = Found((), {}, {}, (), 0, ())
        said = [worker_messages.Discovered(plan), worker_messages.Imported(("m",))]
        worker = mock.Mock(has_ended=False, open_fds=[self.ours.fileno()])
        worker.messages.return_value = said
        self.theirs.send(b"x")
        starter = mock.Mock(**{"start.return_value": worker})
        found = WorkerPool(starter, 1, mock.Mock(), mock.Mock()).discover()
        self.assertEqual(found, plan)
        starter.preload.assert_called_once_with(("m",))

    def test_the_inbox_of_a_world(self):
        """What another loop has taken from the link is still news to the one that waits for it."""
        link = connected_link(self)
        peer = Peer(Member(1, 1, 0, "beta", "", 0), link[0])
        inbox = peer.open(5)
        self.addCleanup(inbox.close)
        number = peer.ask(ClockQuestion())
        said = [Ready(), Sabotage("kill"), Goodbye(("m",))]
        sent = [*(RankSent(5, message) for message in said), Answered(number, ClockAnswer(1.0))]
        link[1].sendall(b"".join(map(frame, sent)))
        answers = gather({peer: number}, ClockAnswer, Deadline.after(60.0))
        self.assertEqual(answers, {peer: ClockAnswer(1.0)})
        self.assertTrue(readable([inbox.fd], Deadline.after(0.0)))
        self.assertEqual(inbox.take(), said)
        self.assertFalse(readable([inbox.fd], Deadline.after(0.0)))

    def test_times_of_another_clock(self):
        link, theirs = connected_link(self)
        peer = Peer(Member(1, 1, 0, "beta", "", 0), link)
        rank = RemoteRank(1, peer, 5)
        self.addCleanup(peer.close, 5)
        span = CollectiveSpan("all_reduce", "0", 1, "", 103.0, None, True)
        sent = [
            PhaseBegun(Phase.BODY, 101.0),
            WhereAnswer(Phase.BODY, 102.0, Snapshot()),
            Report(Passed(), spans=(span, replace(span, ended_s=104.0))),
        ]
        for ahead_s in (0.0, 100.0):
            peer.clock_ahead_s = ahead_s
            theirs.sendall(b"".join(frame(RankSent(5, message)) for message in sent))
            readable([rank.exit_fd], Deadline.after(60.0))
            began, where, report = rank.messages()
            times = [began.at_s, where.since_s, *(each.began_s for each in report.spans)]
            self.assertEqual(times, [at_s - ahead_s for at_s in (101.0, 102.0, 103.0, 103.0)])
            self.assertEqual([each.ended_s for each in report.spans], [None, 104.0 - ahead_s])

    def test_a_link_that_is_handed_on(self):
        """One waits for a single message; a loop that waits on the descriptor takes over."""
        link, theirs = connected_link(self)
        theirs.sendall(b"".join(map(frame, [Welcome(), CloseWorld(1), CloseWorld(2)])))
        self.assertEqual(link.next_message(Deadline.after(60.0)), {"kind": "Welcome"})
        self.assertTrue(readable([link.fd], Deadline.after(0.0)))
        self.assertEqual(link.messages(to_agent), [CloseWorld(1), CloseWorld(2)])


def connected_link(test: unittest.TestCase) -> tuple[Link, socket.socket]:
    """A link, and the socket at its other end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname())
        link = Link(listener.accept()[0])
    test.addCleanup(theirs.close)
    test.addCleanup(link.close)
    return link, theirs
