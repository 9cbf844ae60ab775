"""How a process of a given world comes to rank 0: by torchrun's store, then by a connection."""

from __future__ import annotations

import glob
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.model.clock import Deadline
from harness.model.errors import StartError, UsageError
from harness.model.given import GivenPlace
from harness.ranks import links
from harness.ranks.announcing import Board
from harness.ranks.channel import Message
from harness.ranks.links import Link

# How long the other side may take to say that it is the one that is meant.
_GREETING_S = 5.0
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


def join(own: Card, board: Board, deadline: Deadline) -> Link:
    """Come to rank 0, and wait until all have come.

    Args:
        own: what this process says of itself.
        board: where rank 0 says where it is.
        deadline: until when.

    Raises:
        StartError: if rank 0 does not say where it is, or cannot be reached.
        UsageError: if it does not want this process; the message says why.
    """
    card = asdict(own)
    while True:
        told = board.look(deadline)
        link = _find(told, card, deadline)
        if link is not None:
            _await_welcome(link, card, deadline)
            return link
        if deadline.expired:
            break
        time.sleep(_AGAIN_S)
    where = ", ".join(f"{address}:{told['port']}" for address in told["addresses"])
    raise StartError(
        f"rank {own.rank} could not connect to rank 0 at {where} in time (HARNESS_ASSEMBLY_TIMEOUT)"
    )


def _find(told: Message, card: Message, deadline: Deadline) -> Link | None:
    """The connection to rank 0, by the first address at which it answers."""
    for sock in links.connect(told["addresses"], told["port"], deadline):
        link = Link(sock)
        link.send({"kind": "join", "secret": told["secret"], "card": card})
        answer = link.next_message(Deadline.after(_GREETING_S).sooner(deadline))
        if answer is not None and answer["kind"] == "joined":
            return link
        if answer is not None and answer["kind"] == "unusable":
            _refuse(answer, card)
        link.close()
    return None


def _await_welcome(link: Link, card: Message, deadline: Deadline) -> None:
    # Rank 0 has a deadline of its own, and knows who is missing.
    answer = link.next_message(deadline.later(_GREETING_S))
    if answer is None:
        raise StartError(f"rank {card['rank']}: rank 0 has gone before all had come")
    if answer["kind"] != "welcome":
        _refuse(answer, card)


def _refuse(answer: Message, card: Message) -> None:
    is_told_here = card["host"] != answer["host"] and card["local_rank"] == 0
    raise UsageError(answer["text"] if is_told_here else "")
