"""How a process of a given world comes to rank 0: it finds it, connects, and both prove themselves.

Nothing that comes from the other end is believed before it has proved that it is rank 0's.
"""

from __future__ import annotations

import glob
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.model.clock import Deadline
from harness.model.errors import StartError, UsageError
from harness.model.torchrun_environ import GivenPlace
from harness.ranks.announcing import Board
from harness.ranks.channel import Message
from harness.ranks.torchrun import links
from harness.ranks.torchrun.handshake import NotProvenError, SilentError, claim_of, prove
from harness.ranks.torchrun.links import Link
from harness.ranks.torchrun.socket_user import (
    is_loopback,
    is_stranger,
    user_of_far_end,
    user_of_listener,
)
from harness.ranks.torchrun.world_secret import WorldSecret

# How long rank 0 may take for an answer, which takes it no time unless it is not scheduled.
_ANSWER_S = 30.0
# How often a process looks whether rank 0 has said anew where it is.
_AGAIN_S = 0.2


@dataclass(frozen=True)
class Card:
    """What a process says of itself when it comes."""

    rank: int
    local_rank: int
    group_rank: int | None
    host: str
    system: str
    pid: int
    devices: int
    visible: str
    identity: Mapping[str, str]


def card_of(place: GivenPlace, identity: Mapping[str, str]) -> Card:
    """What this process says of itself.

    Args:
        place: where it is.
        identity: what must be the same for all, by what it is; empty for what is not known.
    """
    return Card(
        place.rank,
        place.local_rank,
        place.group_rank,
        socket.gethostname(),
        _system(),
        os.getpid(),
        _device_count(),
        os.environ.get("CUDA_VISIBLE_DEVICES", ""),
        identity,
    )


# The files of the drivers of NVIDIA, AMD, Intel and Gaudi.
_DEVICE_FILES = ("/dev/nvidia*", "/dev/kfd", "/dev/dri/render*", "/dev/accel*", "/dev/hl*")


def _device_count() -> int:
    """How many devices (GPUs) this process sees; torch is asked only where there may be some."""
    if not any(glob.glob(pattern) for pattern in _DEVICE_FILES):
        return 0
    import torch

    try:
        return torch.accelerator.device_count()
    except RuntimeError:
        return 0


def _system() -> str:
    """A name of this boot of this kernel, and of the view that this process has of processes."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def card_from(message: Message) -> Card:
    """Return what a process says of itself. Raises ValueError saying what cannot be understood."""
    card = message.get("card")
    if message["kind"] != "join" or not isinstance(card, dict):
        raise ValueError(f"not a card: {message!r:.100}")
    try:
        found = Card(**card)
    except TypeError as error:
        raise ValueError(str(error)) from None
    for name, value in card.items():
        if not _CARD_RULES[name](value):
            raise ValueError(f"{name} {value!r:.100}")
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_identity(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


_CARD_RULES: dict[str, Callable[[object], bool]] = {
    "rank": _is_number,
    "local_rank": _is_number,
    "group_rank": lambda value: value is None or _is_number(value),
    "host": _is_text,
    "system": _is_text,
    "pid": _is_number,
    "devices": _is_number,
    "visible": _is_text,
    "identity": _is_identity,
}


class Joining:
    """How a process that is not rank 0's comes to rank 0's.

    Args:
        own: what it says of itself.
        place: where it is.
        board: where rank 0 says where it is.
        secret: of the world.
    """

    def __init__(self, own: Card, place: GivenPlace, board: Board, secret: WorldSecret) -> None:
        self._own = own
        self._place = place
        self._board = board
        self._secret = secret
        #: What has answered in place of rank 0, if something has.
        self._found = ""

    def join(self, deadline: Deadline) -> Link:
        """Come to rank 0, and wait until all have come.

        Raises:
            StartError: if rank 0 does not say where it is, cannot be reached, or cannot prove that
                it is rank 0.
            UsageError: if it does not want this process; the message says why.
        """
        while True:
            told = self._board.look(deadline)
            link = self._connected(told, deadline)
            if link is not None:
                self._await_welcome(link, deadline)
                return link
            if deadline.expired:
                break
            time.sleep(_AGAIN_S)
        where = ", ".join(f"{address}:{told['port']}" for address in told["addresses"])
        raise StartError(
            f"rank {self._own.rank} could not connect to rank 0 at {where} in time "
            f"(HARNESS_ASSEMBLY_TIMEOUT){self._found and f': {self._found}'}"
        )

    def _connected(self, told: Message, deadline: Deadline) -> Link | None:
        """The connection to rank 0, by the first address at which it answers."""
        for sock in links.connect(told["addresses"], told["port"], deadline):
            try:
                return self._proven(sock, deadline)
            except SilentError as error:
                self._found = f"what listens there{_whose(sock)} {error}"
            except NotProvenError as error:
                self._found = self._impostor(sock, told["port"], error)
                if self._board.port:  # nobody else can come to be there
                    raise StartError(f"rank {self._own.rank}: {self._found}") from None
            finally:
                sock.close()
        return None

    def _proven(self, sock: socket.socket, deadline: Deadline) -> Link:
        try:
            address, port = sock.getpeername()[:2]
        except OSError as error:
            raise SilentError("hung up") from error
        if is_loopback(address) and is_stranger(user_of_listener(address, port)):
            raise NotProvenError("belongs to another user")
        limit = Deadline.after(_ANSWER_S).sooner(deadline)
        seals = prove(sock, self._secret, claim_of(self._place), limit)
        # It may have passed the connection on from the one who listens.
        if is_stranger(user_of_far_end(sock)):
            raise NotProvenError("belongs to another user")
        link = Link(sock.dup(), seals)
        link.send({"kind": "join", "card": asdict(self._own)})
        answer = link.next_message(deadline.later(_ANSWER_S))
        if answer is None:
            link.close()
            raise SilentError(f"sent {link.fault}" if link.fault else "hung up")
        if answer["kind"] == "other run":
            raise StartError(
                f"rank {self._own.rank}: another run of yours is at {address}:{port}; give each "
                "run a MASTER_PORT of its own"
            )
        if answer["kind"] != "joined":
            self._refuse(answer)
        return link

    def _impostor(self, sock: socket.socket, port: int, error: NotProvenError) -> str:
        try:
            address = sock.getpeername()[0]
        except OSError:  # it has hung up
            address = self._place.master_addr
        advice = (
            "give the world another MASTER_PORT"
            if is_loopback(address)
            else f"either another process has this port, or rank 0 has another secret than "
            f"{self._secret.source} here: set HARNESS_WORLD_SECRET to the same text on all hosts"
        )
        return (
            f"what listens at {address}:{port}{_whose(sock)} is not proved to be rank 0 of this "
            f"world ({error}), so nothing was run: {advice}"
        )

    def _await_welcome(self, link: Link, deadline: Deadline) -> None:
        # Rank 0 has a deadline of its own, and knows who is missing.
        answer = link.next_message(deadline.later(_ANSWER_S))
        if answer is None:
            why = f": it sent {link.fault}" if link.fault else ""
            raise StartError(f"rank {self._own.rank}: rank 0 has gone before all had come{why}")
        if answer["kind"] != "welcome":
            self._refuse(answer)

    def _refuse(self, answer: Message) -> None:
        is_told_here = self._own.host != answer.get("host") and self._own.local_rank == 0
        raise UsageError(str(answer.get("text")) if is_told_here else "")


def _whose(sock: socket.socket) -> str:
    """Whose the other end is, in brackets; empty if that is not known."""
    try:
        address, port = sock.getpeername()[:2]
    except OSError:  # it has hung up
        return ""
    user = user_of_far_end(sock)
    if user is None and is_loopback(address):
        user = user_of_listener(address, port)
    return "" if user is None else f" (user id {user})"
