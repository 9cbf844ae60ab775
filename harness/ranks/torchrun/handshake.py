"""How two processes of a given world prove to each other that they know its secret.

The joining rank connects and says which rank of which world it is, with a random challenge. Rank 0
answers with a challenge of its own and the proof for the first one. Only then does the joining rank
give the proof for the second one. A proof is an HMAC-SHA256 under the secret over everything that
was said before, and over the role of the one that gives it: a proof that was recorded, or that is
sent back to where it came from, proves nothing. All parts have fixed sizes, so nothing that a
stranger sends is parsed or waited for beyond them.

From both challenges come the keys under which each frame after that carries an HMAC of its own,
with its number: nobody in between can change, add, repeat or drop one unnoticed.
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

#: How long the whole of it may take. The other side has nothing to compute that takes time.
HANDSHAKE_S = 20.0

_MAGIC = b"harness\x01"
_CHALLENGE = 32
# Magic, rank, world size, digest of the run's name, challenge.
_HELLO = struct.Struct("!8sII32s32s")
# Magic, challenge, proof.
_ANSWER = struct.Struct("!8s32s32s")
PROOF_SIZE = 32

# What each proof, or key, is for: none is good for anything else.
_OF_RANK_0, _OF_JOINING = b"rank 0 proves itself\0", b"a joining rank proves itself\0"
_FROM_RANK_0, _TO_RANK_0 = b"key of frames from rank 0\0", b"key of frames to rank 0\0"


class NotProvenError(Exception):
    """The other side has not proved that it belongs to this world. The message says what it did."""


class NoAnswerError(NotProvenError):
    """The other side has hung up, or said nothing in time, which a process that ends does too."""


class FrameMac:
    """Makes the marks of the frames in one direction of one connection, or those to expect.

    Args:
        key: of this direction of this connection.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._count = 0

    def __call__(self, body: bytes) -> bytes:
        """The mark of the next frame, with this body."""
        number = self._count.to_bytes(8, "big")
        self._count += 1
        return hmac.digest(self._key, number + body, "sha256")


@dataclass(frozen=True)
class LinkMacs:
    """The marks of the frames of a connection that has been proved."""

    sent: FrameMac
    received: FrameMac


@dataclass(frozen=True)
class Claim:
    """Who a joining rank says it is.

    Attributes:
        rank, world_size: of it.
        run: a digest of the run's name.
    """

    rank: int
    world_size: int
    run: bytes


def claim_of(place: TorchrunPlace) -> Claim:
    """Return who this process is."""
    name = f"{place.run_id}\0{place.restart_count}"
    run = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    return Claim(place.rank, place.world_size, run)


class Caller:
    """At rank 0, a connection whose other end has still to prove itself. It is never waited for.

    Args:
        sock: the connection.
        address: where it comes from.
        secret: of the world.

    Attributes:
        user: whose process is at the other end, if that is on this host and known.
        deadline: until when it must have proved itself.
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
        """Take what has come; return what has been proved, None as long as more is to come.

        Raises:
            NotProvenError: if nothing will be proved.
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
            raise NotProvenError("gave a wrong proof")
        _, rank, world_size, run, _ = _HELLO.unpack(hello)
        macs = LinkMacs(
            FrameMac(_proof(self._secret, _FROM_RANK_0, self._transcript)),
            FrameMac(_proof(self._secret, _TO_RANK_0, self._transcript)),
        )
        return Claim(rank, world_size, run), macs

    def _answer(self) -> None:
        if not self._heard.startswith(_MAGIC):
            raise NotProvenError("said something that is no handshake")
        challenge = secrets.token_bytes(_CHALLENGE)
        proof = _proof(self._secret, _OF_RANK_0, self._heard + challenge)
        answer = _ANSWER.pack(_MAGIC, challenge, proof)
        try:
            sent = self.sock.send(answer)
        except OSError as error:
            raise NoAnswerError("hung up") from error
        if sent < len(answer):  # into an empty buffer
            raise NotProvenError("took no answer")
        self._transcript = self._heard + answer

    def _receive(self, size: int) -> bool:
        """Take no more than up to so many bytes in all; whether they are complete."""
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
                raise NoAnswerError("hung up on rank 0's proof, as with another secret")
            if not data:
                raise NoAnswerError("hung up")
            self._heard += data
        return True


def prove(sock: socket.socket, secret: WorldSecret, claim: Claim, deadline: Deadline) -> LinkMacs:
    """As a joining rank, have rank 0 prove itself, and then prove oneself.

    Args:
        sock: the connection to what may be rank 0.
        secret: of the world.
        claim: who this process is.
        deadline: until when.

    Raises:
        NoAnswerError: if the other side has hung up or said too little.
        NotProvenError: if what it said proves nothing.
    """
    sock.setblocking(False)
    hello = _HELLO.pack(
        _MAGIC, claim.rank, claim.world_size, claim.run, secrets.token_bytes(_CHALLENGE)
    )
    _send(sock, hello)
    answer = _receive(sock, _ANSWER.size, deadline)
    magic, challenge, proof = _ANSWER.unpack(answer)
    if magic != _MAGIC:
        raise NotProvenError(f"said {answer[:8]!r}")
    if not hmac.compare_digest(_proof(secret, _OF_RANK_0, hello + challenge), proof):
        raise NotProvenError("gave a wrong proof")
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
        raise NoAnswerError("hung up") from error


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
            raise NoAnswerError("hung up")
        found += data
    return found


def _proof(secret: WorldSecret, purpose: bytes, said: bytes) -> bytes:
    return hmac.digest(secret.key, purpose + said, "sha256")


# What is written where others can write too

_NOTE = b"a note in torchrun's store\0"


def signed(secret: WorldSecret, name: str, text: str) -> str:
    """A text with a proof that a process of the world wrote it under this name."""
    return f"{_signature(secret, name, text)} {text}"


def unsigned(secret: WorldSecret, name: str, data: bytes) -> str | None:
    """The text that `signed` has made the data of; None if it has not."""
    signature, _, text = data.decode("utf-8", "replace").partition(" ")
    expected = _signature(secret, name, text)
    return text if hmac.compare_digest(expected.encode(), signature.encode()) else None


def _signature(secret: WorldSecret, name: str, text: str) -> str:
    label = name.encode("utf-8", "surrogateescape")
    said = len(label).to_bytes(8, "big") + label + text.encode("utf-8", "replace")
    return _proof(secret, _NOTE, said).hex()
