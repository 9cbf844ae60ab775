"""Prove, between two of torchrun's processes, that both know the world's secret.

The joining rank connects and sends its rank, its world and a random challenge. Rank 0 answers with
its own challenge and the proof for the first one. Only then does the joining rank send the proof
for the second one. A proof is an HMAC-SHA256 with the secret over everything sent before and over
the sender's role. So a replayed or reflected proof is worthless. All parts have fixed sizes:
nothing from a stranger is parsed, and no more bytes are awaited.

Both challenges yield the keys for the HMACs of all later frames. Each covers the frame's number, so
nobody in between can change, add, repeat or drop a frame unnoticed.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import socket
import struct
from dataclasses import dataclass

from harness.model.clock import Deadline
from harness.model.torchrun_environ import TorchrunPlace
from harness.ranks.descriptors import readable
from harness.ranks.torchrun.socket_user import user_of_far_end
from harness.ranks.torchrun.world_secret import WorldSecret

#: Time limit for the whole handshake, which needs milliseconds.
HANDSHAKE_S = 20.0

_MAGIC = b"harness\x01"
_CHALLENGE = 32
# Magic, rank, world size, digest of the run's name, challenge.
_HELLO = struct.Struct("!8sII32s32s")
# Magic, challenge, proof.
_ANSWER = struct.Struct("!8s32s32s")
PROOF_SIZE = 32

# The purpose of each proof or key, part of its HMAC, so that none is valid for another purpose.
_OF_RANK_0, _OF_JOINING = b"rank 0 proves itself\0", b"a joining rank proves itself\0"
_FROM_RANK_0, _TO_RANK_0 = b"key of frames from rank 0\0", b"key of frames to rank 0\0"


class NotProvenError(Exception):
    """The other side has not proved that it belongs to this world; the message says why."""


class NoAnswerError(NotProvenError):
    """The other side closed the connection or sent too little, as an ending process does."""


class FrameMac:
    """Computes the MACs of all frames in one direction of a connection, in order.

    Args:
        key: the key of this direction.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._count = 0

    def __call__(self, body: bytes) -> bytes:
        """Return the MAC of the next frame, which has this body."""
        number = self._count.to_bytes(8, "big")
        self._count += 1
        return hmac.digest(self._key, number + body, "sha256")


@dataclass(frozen=True)
class LinkMacs:
    """The MACs for both directions of a connection."""

    sent: FrameMac
    received: FrameMac


@dataclass(frozen=True)
class Claim:
    """The identity that a joining rank claims.

    Attributes:
        rank, world_size: its RANK and WORLD_SIZE.
        run: a digest of the run's name.
    """

    rank: int
    world_size: int
    run: bytes


def claim_of(place: TorchrunPlace) -> Claim:
    """Return the claim of this process."""
    name = f"{place.run_id}\0{place.restart_count}"
    run = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    return Claim(place.rank, place.world_size, run)


class Caller:
    """A connection at rank 0 whose other end has not proved itself yet. It never blocks.

    Args:
        sock: the connection.
        address: where it comes from.
        secret: the secret of the world.

    Attributes:
        user: the user id of the other end, if it is on this host and known.
        deadline: when the proof must be complete.
    """

    def __init__(self, sock: socket.socket, address: str, secret: WorldSecret) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.address = address
        self.user = user_of_far_end(sock)
        self.deadline = Deadline.after(HANDSHAKE_S)
        self._secret = secret
        self._heard = b""
        self._transcript = b""

    def advance(self) -> tuple[Claim, LinkMacs] | None:
        """Read what has arrived; return the proven claim, or None if more is needed.

        Raises:
            NotProvenError: if the proof is wrong or late.
        """
        if not self._transcript:
            if not self._receive(_HELLO.size):
                return None
            self._answer()
        if not self._receive(_HELLO.size + PROOF_SIZE):
            return None
        hello, proof = self._heard[: _HELLO.size], self._heard[_HELLO.size :]
        expected = _proof(self._secret, _OF_JOINING, self._transcript)
        if not hmac.compare_digest(expected, proof):
            raise NotProvenError("sent a wrong proof")
        _, rank, world_size, run, _ = _HELLO.unpack(hello)
        macs = LinkMacs(
            FrameMac(_proof(self._secret, _FROM_RANK_0, self._transcript)),
            FrameMac(_proof(self._secret, _TO_RANK_0, self._transcript)),
        )
        return Claim(rank, world_size, run), macs

    def _answer(self) -> None:
        if not self._heard.startswith(_MAGIC):
            raise NotProvenError("sent something that is not a handshake")
        challenge = secrets.token_bytes(_CHALLENGE)
        proof = _proof(self._secret, _OF_RANK_0, self._heard + challenge)
        answer = _ANSWER.pack(_MAGIC, challenge, proof)
        try:
            sent = self.sock.send(answer)
        except OSError as error:
            raise NoAnswerError("closed the connection") from error
        if sent < len(answer):  # the send buffer is empty, so it has room
            raise NotProvenError("took no answer")
        self._transcript = self._heard + answer

    def _receive(self, size: int) -> bool:
        """Read up to `size` bytes in total; return whether they are complete."""
        while len(self._heard) < size:
            if self.deadline.expired:
                raise NoAnswerError(f"proved nothing within {HANDSHAKE_S:g} s")
            try:
                data = self.sock.recv(size - len(self._heard))
            except BlockingIOError:
                return False
            except OSError:
                data = b""
            if not data and self._transcript:
                raise NoAnswerError("rejected rank 0's proof, as with another secret")
            if not data:
                raise NoAnswerError("closed the connection")
            self._heard += data
        return True


def prove(sock: socket.socket, secret: WorldSecret, claim: Claim, deadline: Deadline) -> LinkMacs:
    """Verify rank 0's proof, then send this process's own.

    Args:
        sock: the connection to what may be rank 0.
        secret: the secret of the world.
        claim: the claim of this process.
        deadline: when to give up.

    Raises:
        NoAnswerError: if the other side closed the connection or sent too little.
        NotProvenError: if its proof is wrong.
    """
    sock.setblocking(False)
    hello = _HELLO.pack(
        _MAGIC, claim.rank, claim.world_size, claim.run, secrets.token_bytes(_CHALLENGE)
    )
    _send(sock, hello)
    answer = _receive(sock, _ANSWER.size, deadline)
    magic, challenge, proof = _ANSWER.unpack(answer)
    if magic != _MAGIC:
        raise NotProvenError(f"sent {answer[:8]!r}")
    if not hmac.compare_digest(_proof(secret, _OF_RANK_0, hello + challenge), proof):
        raise NotProvenError("sent a wrong proof")
    transcript = hello + answer
    _send(sock, _proof(secret, _OF_JOINING, transcript))
    return LinkMacs(
        FrameMac(_proof(secret, _TO_RANK_0, transcript)),
        FrameMac(_proof(secret, _FROM_RANK_0, transcript)),
    )


def _send(sock: socket.socket, data: bytes) -> None:
    try:
        sock.sendall(data)  # a few bytes, into a buffer that is empty
    except OSError as error:
        raise NoAnswerError("closed the connection") from error


def _receive(sock: socket.socket, size: int, deadline: Deadline) -> bytes:
    found = b""
    while len(found) < size:
        if not readable([sock.fileno()], deadline):
            raise NoAnswerError("did not answer in time")
        try:
            data = sock.recv(size - len(found))
        except OSError:
            data = b""
        if not data:
            raise NoAnswerError("closed the connection")
        found += data
    return found


def _proof(secret: WorldSecret, purpose: bytes, said: bytes) -> bytes:
    return hmac.digest(secret.key, purpose + said, "sha256")


# What is written where others can write too

_NOTE = b"a note in torchrun's store\0"


def signed(secret: WorldSecret, name: str, text: str) -> str:
    """Return the text with a signature of a process of this world for this name."""
    return f"{_signature(secret, name, text)} {text}"


def unsigned(secret: WorldSecret, name: str, data: bytes) -> str | None:
    """Return the text in data that `signed` has made; None for any other data."""
    signature, _, text = data.decode("utf-8", "replace").partition(" ")
    expected = _signature(secret, name, text)
    return text if hmac.compare_digest(expected.encode(), signature.encode()) else None


def _signature(secret: WorldSecret, name: str, text: str) -> str:
    label = name.encode("utf-8", "surrogateescape")
    said = len(label).to_bytes(8, "big") + label + text.encode("utf-8", "replace")
    return _proof(secret, _NOTE, said).hex()
