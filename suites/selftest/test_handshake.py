"""The handshake of processes that join a world: what proves the secret, and sealed frames."""

from __future__ import annotations

import os
import socket
import threading
import unittest
from unittest import mock

from harness.model.clock import Deadline
from harness.ranks.descriptors import readable
from harness.ranks.stores import LOOPBACK
from harness.ranks.torchrun.handshake import Caller, NoAnswerError, NotProvenError, claim_of, prove
from harness.ranks.torchrun.links import Link
from harness.ranks.torchrun.messages import Leave
from harness.ranks.torchrun.socket_user import user_of_far_end, user_of_listener
from harness.ranks.torchrun.world_secret import WorldSecret
from suites.selftest.secrets_of_worlds import OTHER_SECRET, SECRET, place_of


class HandshakeTestCase(unittest.TestCase):
    def setUp(self):
        self.joining, self.at_rank_0 = self.pair()

    def pair(self) -> tuple[socket.socket, socket.socket]:
        with socket.create_server((LOOPBACK, 0)) as listener:
            joining = socket.create_connection(listener.getsockname())
            at_rank_0, _ = listener.accept()
        self.addCleanup(joining.close)
        self.addCleanup(at_rank_0.close)
        return joining, at_rank_0

    def admit(self, secret: WorldSecret = SECRET, sock: socket.socket | None = None):
        """Rank 0's side, to its end."""
        caller = Caller(sock or self.at_rank_0, LOOPBACK, secret)
        while (proven := caller.advance()) is None:
            self.assertTrue(readable([caller.sock.fileno()], Deadline.after(60.0)))
        return proven

    def join(self, secret: WorldSecret = SECRET, sock: socket.socket | None = None):
        return prove(sock or self.joining, secret, claim_of(place_of(1)), Deadline.after(60.0))

    def both(self, of_rank_0: WorldSecret = SECRET):
        """Both sides; what each of them came to, a value or an error."""
        found = {}

        def run(side, call):
            try:
                found[side] = call()
            except NotProvenError as error:
                found[side] = error
                # As those do that call it.
                (self.joining if side == "joining" else self.at_rank_0).close()

        thread = threading.Thread(target=run, args=("joining", self.join))
        thread.start()
        run("rank 0", lambda: self.admit(of_rank_0))
        thread.join()
        return found["rank 0"], found["joining"]


class TestProofs(HandshakeTestCase):
    def test_two_that_know_the_secret(self):
        (claim, ours), theirs = self.both()
        self.assertEqual((claim.rank, claim.world_size), (1, 2))
        at_rank_0, joining = Link(self.at_rank_0, ours), Link(self.joining, theirs)
        for sender, receiver in ((at_rank_0, joining), (joining, at_rank_0)):
            for number in range(3):
                sender.send(Leave(number))
            found = [receiver.next_message(Deadline.after(60.0)) for _ in range(3)]
            self.assertEqual([message and message["code"] for message in found], [0, 1, 2])

    def test_another_secret_at_either_end(self):
        rank_0, joining = self.both(OTHER_SECRET)
        self.assertIsInstance(joining, NotProvenError)
        self.assertEqual(str(joining), "sent a wrong proof")
        self.assertIsInstance(rank_0, NoAnswerError)  # it was told nothing
        self.assertIn("as with another secret", str(rank_0))

    def recorded(self) -> tuple[bytes, bytes, bytes]:
        """What passes between two that prove themselves: hello, answer, proof."""
        said: list[bytes] = []
        send = socket.socket.send

        class Recorded(socket.socket):
            def send(self, data, *args):
                said.append(bytes(data))
                return send(self, data, *args)

            sendall = send

        with mock.patch.object(self, "joining", Recorded(fileno=self.joining.detach())):
            self.at_rank_0 = Recorded(fileno=self.at_rank_0.detach())
            rank_0, joining = self.both()
            self.assertNotIsInstance(rank_0, Exception)
            self.assertNotIsInstance(joining, Exception)
            self.joining.close()
            self.at_rank_0.close()
        hello, answer, proof = said
        return hello, answer, proof

    def test_a_recorded_proof_proves_nothing(self):
        hello, _, proof = self.recorded()
        joining, at_rank_0 = self.pair()
        joining.sendall(hello + proof)
        with self.assertRaisesRegex(NotProvenError, "sent a wrong proof"):
            self.admit(sock=at_rank_0)

    def test_a_recorded_rank_0_proves_nothing(self):
        _, answer, _ = self.recorded()
        joining, at_rank_0 = self.pair()
        at_rank_0.sendall(answer)
        with self.assertRaisesRegex(NotProvenError, "sent a wrong proof"):
            self.join(sock=joining)

    def test_what_is_sent_back_proves_nothing(self):
        joining, at_rank_0 = self.pair()
        joining.sendall(self.recorded()[0])
        caller = Caller(at_rank_0, LOOPBACK, SECRET)
        readable([at_rank_0.fileno()], Deadline.after(60.0))
        self.assertIsNone(caller.advance())
        answer = joining.recv(1000)
        joining.sendall(answer[-32:])  # rank 0's own proof
        with self.assertRaisesRegex(NotProvenError, "sent a wrong proof"):
            while caller.advance() is None:
                readable([at_rank_0.fileno()], Deadline.after(60.0))
        # And at the other side: the hello, as far as an answer is long.
        joining, at_rank_0 = self.pair()
        thread = threading.Thread(target=lambda: at_rank_0.sendall(at_rank_0.recv(72)))
        thread.start()
        with self.assertRaisesRegex(NotProvenError, "sent a wrong proof"):
            self.join(sock=joining)
        thread.join()

    def test_a_proof_is_of_one_rank(self):
        """Who changes on the way who the other says it is, is noticed."""
        for at in (8, 12, 16, 60):
            with self.subTest(at):
                joining, middle = self.pair()
                other_middle, at_rank_0 = self.pair()

                def change(at=at, middle=middle, other=other_middle):
                    hello = bytearray(middle.recv(80))
                    hello[at] ^= 1
                    other.sendall(hello)
                    middle.sendall(other.recv(72))

                thread = threading.Thread(target=change)
                thread.start()
                admitting = threading.Thread(
                    target=lambda sock=at_rank_0: self.assertRaises(
                        NotProvenError, self.admit, sock=sock
                    )
                )
                admitting.start()
                with self.assertRaisesRegex(NotProvenError, "sent a wrong proof"):
                    self.join(sock=joining)
                thread.join()
                other_middle.close()
                admitting.join()

    def test_bytes_one_by_one(self):
        """Also slowly, it is let in, and nothing of what follows is taken with it."""
        middle, at_rank_0 = self.pair()
        caller = Caller(at_rank_0, LOOPBACK, SECRET)
        joining, other = self.pair()
        found = []
        thread = threading.Thread(target=lambda: found.append(self.join(sock=joining)))
        thread.start()
        for _ in range(80):
            middle.sendall(other.recv(1))
            readable([at_rank_0.fileno()], Deadline.after(60.0))
            self.assertIsNone(caller.advance())
        other.sendall(middle.recv(72))
        thread.join()
        proof = other.recv(32)
        for number in range(31):
            middle.sendall(proof[number : number + 1])
            readable([at_rank_0.fileno()], Deadline.after(60.0))
            self.assertIsNone(caller.advance())
        middle.sendall(proof[31:] + b"more")
        readable([at_rank_0.fileno()], Deadline.after(60.0))
        self.assertIsNotNone(caller.advance())
        self.assertEqual(at_rank_0.recv(10), b"more")


class TestFrames(HandshakeTestCase):
    """Somebody between the two, after they have proved themselves."""

    def setUp(self):
        super().setUp()
        (_, at_rank_0), joining = self.both()
        # The link sends into one end of a pipe; the other side gets what the test makes of it.
        self.sender, self.tap = self.pair()
        self.feed, receiver = self.pair()
        self.link = Link(self.sender, joining)
        self.receiver = Link(receiver, at_rank_0)

    def frames(self, count: int) -> list[bytes]:
        found = []
        for number in range(count):
            self.link.send(Leave(number))
            found.append(self.tap.recv(10_000))
        return found

    def received(self, data: bytes) -> list[int]:
        self.feed.sendall(data)
        self.feed.shutdown(socket.SHUT_WR)
        found = []
        while (message := self.receiver.next_message(Deadline.after(60.0))) is not None:
            found.append(message["code"])
        return found

    def test_as_they_were_sent(self):
        self.assertEqual(self.received(b"".join(self.frames(3))), [0, 1, 2])
        self.assertEqual(self.receiver.fault, "")

    def test_changed(self):
        first, second = self.frames(2)
        self.assertEqual(self.received(first + second.replace(b'"code": 1', b'"code": 2')), [0])
        self.assertIn("changed, added or repeated in transit", self.receiver.fault)

    def test_repeated(self):
        (first,) = self.frames(1)
        self.assertEqual(self.received(first + first), [0])
        self.assertIn("changed, added or repeated in transit", self.receiver.fault)

    def test_left_out(self):
        first, _, third = self.frames(3)
        self.assertEqual(self.received(first + third), [0])
        self.assertIn("changed, added or repeated in transit", self.receiver.fault)

    def test_sent_back_to_its_sender(self):
        (frame,) = self.frames(1)
        self.tap.sendall(frame)
        self.assertIsNone(self.link.next_message(Deadline.after(60.0)))
        self.assertIn("changed, added or repeated in transit", self.link.fault)


class TestUsersOfSockets(HandshakeTestCase):
    def test_of_a_connection(self):
        self.assertEqual(user_of_far_end(self.joining), os.geteuid())
        self.assertEqual(user_of_far_end(self.at_rank_0), os.geteuid())
        self.joining.close()
        self.assertIsNone(user_of_far_end(self.at_rank_0))

    def test_of_a_connection_of_a_socket_for_ipv6(self):
        listener = socket.socket(socket.AF_INET6)
        self.addCleanup(listener.close)
        try:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            listener.bind(("::", 0))
        except OSError as error:
            self.skipTest(f"no IPv6 here: {error}")
        listener.listen()
        port = listener.getsockname()[1]
        self.assertEqual(user_of_listener(LOOPBACK, port), os.geteuid())
        with socket.create_connection((LOOPBACK, port)) as ours, listener.accept()[0]:
            self.assertEqual(user_of_far_end(ours), os.geteuid())

    def test_of_a_listener(self):
        with socket.create_server((LOOPBACK, 0)) as listener:
            port = listener.getsockname()[1]
            self.assertEqual(user_of_listener(LOOPBACK, port), os.geteuid())
            self.assertIsNone(user_of_listener("127.0.0.77", port))
        self.assertIsNone(user_of_listener(LOOPBACK, port))
