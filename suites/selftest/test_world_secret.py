"""The secret of a given world: where it is kept, how it is proved, what a stranger can do."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
import threading
import unittest
from pathlib import Path
from unittest import mock

from harness.model import settings
from harness.model.clock import Deadline
from harness.model.errors import SettingError, StartError
from harness.model.torchrun_environ import TorchrunPlace, given_place
from harness.ranks.descriptors import readable
from harness.ranks.stores import LOOPBACK
from harness.ranks.torchrun import links, world_secret
from harness.ranks.torchrun.admission import Admission
from harness.ranks.torchrun.handshake import (
    Caller,
    NoAnswerError,
    NotProvenError,
    claim_of,
    prove,
    signed,
    unsigned,
)
from harness.ranks.torchrun.links import Link
from harness.ranks.torchrun.socket_user import user_of_far_end, user_of_listener
from harness.ranks.torchrun.world_secret import WorldSecret
from suites.selftest.stranger import STRANGER, needs_a_stranger

SECRET = WorldSecret(b"of the selftest", "the selftest")
OTHER_SECRET = WorldSecret(b"of another world", "the selftest")


def place_of(rank: int, **more: str) -> TorchrunPlace:
    """The place of a rank in a world of two on one host."""
    environ = {
        "RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": LOOPBACK,
        "MASTER_PORT": "29500", **more,
    }  # fmt: skip
    place = given_place(environ)
    assert place is not None
    return place


class TestWhereItIs(unittest.TestCase):
    def setUp(self):
        base = tempfile.TemporaryDirectory(prefix="selftest ")
        self.addCleanup(base.cleanup)
        self.base = Path(base.name)
        self.cache, self.temp = self.base / "cache", self.base / "temp"
        self.temp.mkdir()
        self.enter(mock.patch.dict(os.environ, XDG_CACHE_HOME=str(self.cache)))
        self.enter(mock.patch.object(tempfile, "tempdir", str(self.temp)))
        for setting in (settings.WORLD_SECRET, settings.INSECURE_WORLD):
            os.environ.pop(setting.env, None)

    def enter(self, manager):
        manager.__enter__()
        self.addCleanup(manager.__exit__, None, None, None)

    @property
    def folder(self) -> Path:
        return self.cache / "harness" / "world"

    def secret(self, **more: str) -> WorldSecret:
        return world_secret.world_secret(place_of(0, **more))

    def refused(self, why: str, **more: str):
        with self.assertRaisesRegex(StartError, why) as caught:
            self.secret(**more)
        self.assertIn("HARNESS_WORLD_SECRET", str(caught.exception))
        self.assertNotIn("\n", str(caught.exception))

    def test_of_the_environment(self):
        os.environ["HARNESS_WORLD_SECRET"] = "correct horse battery"
        self.assertEqual(self.secret().key, b"correct horse battery")
        self.assertNotIn("HARNESS_WORLD_SECRET", os.environ)
        self.assertFalse(self.cache.exists())

    def test_one_that_can_be_guessed(self):
        os.environ["HARNESS_WORLD_SECRET"] = "hunter2"
        with self.assertRaisesRegex(SettingError, "has 7 characters: it must have 16") as caught:
            self.secret()
        self.assertNotIn("hunter2", str(caught.exception))

    def test_a_file_that_stays(self):
        first = self.secret()
        self.assertEqual(first, self.secret(LOCAL_WORLD_SIZE="1"))  # also for several hosts
        self.assertEqual(stat.S_IMODE(self.folder.stat().st_mode), 0o700)
        self.assertEqual([path.name for path in self.folder.iterdir()], ["secret"])
        self.assertEqual(stat.S_IMODE((self.folder / "secret").stat().st_mode), 0o600)
        self.assertNotIn(first.key.decode(), repr(first))

    def test_many_processes_at_once(self):
        found, start = [], threading.Barrier(8)

        def read():
            start.wait()
            found.append(self.secret().key)

        threads = [threading.Thread(target=read) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(len(found), 8)
        self.assertEqual(len(set(found)), 1)
        self.assertEqual([path.name for path in self.folder.iterdir()], ["secret"])

    def test_without_a_cache_folder(self):
        self.cache.write_text("a file is in its place")
        self.secret()
        (kept,) = self.temp.iterdir()
        self.assertEqual(kept.name, f"harness-world-of-user-{os.geteuid()}")
        # Other hosts would have another one there.
        self.refused("no place for the secret of this world", LOCAL_WORLD_SIZE="1")

    def test_an_insecure_world(self):
        os.environ["HARNESS_INSECURE_WORLD"] = "1"
        self.assertFalse(self.secret().is_secret)
        self.assertFalse(self.cache.exists())

    def hostile(self) -> Path:
        """A folder that is as it should be, for something that is not."""
        self.folder.mkdir(parents=True, mode=0o700)
        return self.folder / "secret"

    def test_files_that_others_may_read_or_write(self):
        file = self.hostile()
        file.write_text("0" * 64 + "\n")
        for mode in (0o640, 0o604, 0o620, 0o666):
            file.chmod(mode)
            self.refused(f"its mode is {mode:04o}, where 0600 keeps others out")

    def test_folders_that_others_may_read_or_write(self):
        self.hostile()
        for mode in (0o755, 0o770, 0o777):
            self.folder.chmod(mode)
            self.refused(f"its mode is {mode:04o}, where 0700 keeps others out")

    def test_what_is_no_file_or_no_secret(self):
        file = self.hostile()
        os.mkfifo(file, 0o600)
        self.refused("it is not a regular file")
        file.unlink()
        file.mkdir(0o700)
        self.refused("it is not a regular file")
        file.rmdir()
        for text in ("", "0" * 63 + "\n", "0" * 64, "0" * 64 + "\n\n", "x" * 64 + "\n"):
            file.write_text(text)
            file.chmod(0o600)
            self.refused("it holds something else than a secret")

    def test_symbolic_links(self):
        known = self.base / "known"
        known.write_text("0" * 64 + "\n")
        known.chmod(0o600)
        self.hostile().symlink_to(known)
        self.refused("it cannot be opened")
        self.folder.rename(self.folder.with_name("elsewhere"))
        self.folder.symlink_to("elsewhere")
        self.refused("it is a symbolic link")

    @needs_a_stranger
    def test_what_belongs_to_somebody_else(self):
        file = self.hostile()
        theirs = self.base / "theirs"
        theirs.write_text("0" * 64 + "\n")
        theirs.chmod(0o600)
        os.chown(theirs, STRANGER, STRANGER)
        os.link(theirs, file)
        self.refused(f"secret, where .*: it belongs to user id {STRANGER}, not to 0; remove it, or")
        file.unlink()
        os.chown(self.folder, STRANGER, STRANGER)
        self.refused(f"world, where .*: it belongs to user id {STRANGER}, not to 0; remove it, or")


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
                sender.send({"kind": "count", "number": number})
            found = [receiver.next_message(Deadline.after(60.0)) for _ in range(3)]
            self.assertEqual([message and message["number"] for message in found], [0, 1, 2])

    def test_another_secret_at_either_end(self):
        rank_0, joining = self.both(OTHER_SECRET)
        self.assertIsInstance(joining, NotProvenError)
        self.assertEqual(str(joining), "gave a wrong proof")
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
        with self.assertRaisesRegex(NotProvenError, "gave a wrong proof"):
            self.admit(sock=at_rank_0)

    def test_a_recorded_rank_0_proves_nothing(self):
        _, answer, _ = self.recorded()
        joining, at_rank_0 = self.pair()
        at_rank_0.sendall(answer)
        with self.assertRaisesRegex(NotProvenError, "gave a wrong proof"):
            self.join(sock=joining)

    def test_what_is_sent_back_proves_nothing(self):
        joining, at_rank_0 = self.pair()
        joining.sendall(self.recorded()[0])
        caller = Caller(at_rank_0, LOOPBACK, SECRET)
        readable([at_rank_0.fileno()], Deadline.after(60.0))
        self.assertIsNone(caller.advance())
        answer = joining.recv(1000)
        joining.sendall(answer[-32:])  # rank 0's own proof
        with self.assertRaisesRegex(NotProvenError, "gave a wrong proof"):
            while caller.advance() is None:
                readable([at_rank_0.fileno()], Deadline.after(60.0))
        # And at the other side: the hello, as far as an answer is long.
        joining, at_rank_0 = self.pair()
        thread = threading.Thread(target=lambda: at_rank_0.sendall(at_rank_0.recv(72)))
        thread.start()
        with self.assertRaisesRegex(NotProvenError, "gave a wrong proof"):
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
                with self.assertRaisesRegex(NotProvenError, "gave a wrong proof"):
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
            self.link.send({"kind": "count", "number": number})
            found.append(self.tap.recv(10_000))
        return found

    def received(self, data: bytes) -> list[int]:
        self.feed.sendall(data)
        self.feed.shutdown(socket.SHUT_WR)
        found = []
        while (message := self.receiver.next_message(Deadline.after(60.0))) is not None:
            found.append(message["number"])
        return found

    def test_as_they_were_sent(self):
        self.assertEqual(self.received(b"".join(self.frames(3))), [0, 1, 2])
        self.assertEqual(self.receiver.fault, "")

    def test_changed(self):
        first, second = self.frames(2)
        self.assertEqual(self.received(first + second.replace(b'"number": 1', b'"number": 2')), [0])
        self.assertIn("changed, added or repeated", self.receiver.fault)

    def test_repeated(self):
        (first,) = self.frames(1)
        self.assertEqual(self.received(first + first), [0])
        self.assertIn("changed, added or repeated", self.receiver.fault)

    def test_left_out(self):
        first, _, third = self.frames(3)
        self.assertEqual(self.received(first + third), [0])
        self.assertIn("changed, added or repeated", self.receiver.fault)

    def test_sent_back_to_its_sender(self):
        (frame,) = self.frames(1)
        self.tap.sendall(frame)
        self.assertIsNone(self.link.next_message(Deadline.after(60.0)))
        self.assertIn("changed, added or repeated", self.link.fault)


class TestNotes(unittest.TestCase):
    def test_what_was_signed(self):
        data = signed(SECRET, "a name", "a text: ü").encode()
        self.assertEqual(unsigned(SECRET, "a name", data), "a text: ü")
        self.assertIsNone(unsigned(OTHER_SECRET, "a name", data))
        self.assertIsNone(unsigned(SECRET, "another name", data))
        self.assertIsNone(unsigned(SECRET, "a name", data + b"!"))
        self.assertIsNone(unsigned(SECRET, "a name", b"a text"))
        self.assertIsNone(unsigned(SECRET, "a name", b""))


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
                link.send({"kind": "join", "card": {}})
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
        self.assertEqual((arrival.claim.rank, arrival.join_request["kind"]), (1, "join"))
        self.assertLess(len(self.door.fds), 200)
        self.assertRegex(
            str(self.door.rejected),
            r"^rank 0 turned away \d+ connections .* \(.*\d+ from 127.0.0.1, user "
            r"id \d+: its place was needed",
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
        self.assertIn("said something that is no handshake", str(self.door.rejected))

    def test_another_run_with_the_same_secret(self):
        place = place_of(1, TORCHELASTIC_RUN_ID="another")
        thread = self.join(place)
        while not self.door.rejected:
            self.assertTrue(readable(self.door.fds, Deadline.after(60.0)))
            self.assertEqual(self.door.advance(), [])
        thread.join()
        self.assertIn("of another run of yours", str(self.door.rejected))


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


if __name__ == "__main__":
    unittest.main()
