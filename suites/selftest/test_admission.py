"""Who may join torchrun's world: connections that prove nothing, say too much or stay silent."""

from __future__ import annotations

import socket
import threading
import unittest
from unittest import mock

from harness.model.clock import Deadline
from harness.model.torchrun_environ import TorchrunPlace
from harness.ranks.descriptors import readable
from harness.ranks.stores import LOOPBACK
from harness.ranks.torchrun import links
from harness.ranks.torchrun.admission import Admission
from harness.ranks.torchrun.handshake import NotProvenError, claim_of, prove
from harness.ranks.torchrun.join_request import join_request_of
from harness.ranks.torchrun.links import Link
from harness.ranks.torchrun.world_secret import WorldSecret
from suites.selftest.secrets_of_worlds import SECRET, place_of


class TestTheDoor(unittest.TestCase):
    def setUp(self):
        listener = links.listen(LOOPBACK, 0)
        self.address = listener.getsockname()
        self.door = Admission(listener, SECRET, claim_of(place_of(0)))
        self.addCleanup(self.door.close)

    def call(self) -> socket.socket:
        sock = socket.create_connection(self.address)
        self.addCleanup(sock.close)
        return sock

    def join(self, place: TorchrunPlace, secret: WorldSecret = SECRET) -> threading.Thread:
        def run(sock: socket.socket) -> None:
            try:
                seals = prove(sock, secret, claim_of(place), Deadline.after(60.0))
                link = Link(sock.dup(), seals)
                link.send(join_request_of(place, {}))
                self.addCleanup(link.close)
            except NotProvenError:
                sock.close()

        thread = threading.Thread(target=run, args=(self.call(),))
        thread.start()
        return thread

    def arrival(self, place: TorchrunPlace):
        thread = self.join(place)
        arrivals: list = []
        while not arrivals:
            self.assertTrue(readable(self.door.fds, Deadline.after(60.0)))
            arrivals = self.door.advance()
        thread.join()
        (arrival,) = arrivals
        self.addCleanup(arrival.link.close)
        return arrival

    def test_a_flood_of_silent_strangers_keeps_nobody_out(self):
        strangers = [self.call() for _ in range(300)]
        while not self.door.rejected:
            self.door.advance()
        arrival = self.arrival(place_of(1))
        self.assertEqual((arrival.claim.rank, arrival.join_request["kind"]), (1, "JoinRequest"))
        self.assertLess(len(self.door.fds), 200)
        self.assertRegex(
            str(self.door.rejected),
            r"^rank 0 rejected \d+ connections .* \(.*\d+ from 127.0.0.1, user "
            r"id \d+: its slot was needed",
        )
        self.assertEqual(len(strangers), 300)

    def test_time_is_up(self):
        with mock.patch("harness.ranks.torchrun.handshake.HANDSHAKE_S", 0.0):
            self.call()
            while not self.door.rejected:
                self.assertTrue(readable(self.door.fds, Deadline.after(60.0)))
                self.door.advance()
        self.assertIn("proved nothing within 0 s", str(self.door.rejected))
        self.assertEqual(len(self.door.fds), 1)

    def test_what_strangers_say(self):
        for said in (b"GET / HTTP/1.1\r\n\r\n".ljust(80), b"\0" * 80, b"[" * 200_000):
            with self.subTest(said[:10]), self.call() as stranger:
                stranger.setblocking(False)
                stranger.send(said)
                while readable([*self.door.fds, stranger.fileno()], Deadline.after(60.0)) != {
                    stranger.fileno()
                }:
                    self.assertEqual(self.door.advance(), [])
        self.assertIn("from 127.0.0.1, user id", str(self.door.rejected))
        self.assertIn("sent something that is not a handshake", str(self.door.rejected))

    def test_another_run_with_the_same_secret(self):
        place = place_of(1, TORCHELASTIC_RUN_ID="another")
        thread = self.join(place)
        while not self.door.rejected:
            self.assertTrue(readable(self.door.fds, Deadline.after(60.0)))
            self.assertEqual(self.door.advance(), [])
        thread.join()
        self.assertIn("belongs to another run of yours", str(self.door.rejected))
