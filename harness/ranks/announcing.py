"""Where rank 0 of a given world says where it is: in torchrun's store, or by the port agreed on."""

from __future__ import annotations

import json
import secrets
import time
from datetime import timedelta
from typing import Any, Protocol

from harness.model.clock import Deadline
from harness.model.errors import StartError
from harness.model.given import GivenPlace
from harness.ranks.channel import Message

_KEY = "harness/rank 0"
# How often a process looks whether rank 0 has said where it is.
_AGAIN_S = 0.1


class Board(Protocol):
    """Where rank 0 says where it is.

    Attributes:
        port: on which port it has to listen; 0 for any.
        secret: what others must know to be let in.
    """

    port: int
    secret: str

    def announce(self, addresses: list[str], port: int) -> None:
        """Rank 0 listens there."""

    def look(self, deadline: Deadline) -> Message:
        """Where it listens, as far as anybody knows: `addresses`, `port` and `secret`.

        Raises:
            StartError: if nobody says so in time.
        """


class AgreedPort:
    """Where nobody serves a store (under srun, say), MASTER_PORT itself is rank 0's.

    Args:
        place: of this process.
    """

    def __init__(self, place: GivenPlace) -> None:
        self.port = place.master_port
        self.secret = place.run_id
        self._address = place.master_addr

    def announce(self, addresses: list[str], port: int) -> None:
        """All know it."""

    def look(self, deadline: Deadline) -> Message:
        return {"addresses": [self._address], "port": self.port, "secret": self.secret}


class AgentStore:
    """The store of torchrun's agent, which outlives the processes of the world.

    Args:
        place: of this process.
        deadline: until when it must have answered.

    Raises:
        StartError: if there is no way to it.
    """

    port = 0

    def __init__(self, place: GivenPlace, deadline: Deadline) -> None:
        from torch._C._distributed_c10d import PrefixStore, TCPStore

        self.secret = secrets.token_hex(16)
        self._where = f"MASTER_ADDR={place.master_addr} MASTER_PORT={place.master_port}"
        timeout = _timeout(deadline)
        try:
            self._store: Any = TCPStore(
                place.master_addr, place.master_port, None, False, timeout, wait_for_workers=False
            )
        except RuntimeError as error:
            raise StartError(
                f"rank {place.rank} cannot reach torchrun's store at {self._where}: {_line(error)}"
            ) from error
        self._notes = PrefixStore(f"harness/notes of {place.run_id}", self._store)

    def announce(self, addresses: list[str], port: int) -> None:
        told = {"addresses": addresses, "port": port, "secret": self.secret}
        self._store.set(_KEY, json.dumps(told))

    def look(self, deadline: Deadline) -> Message:
        try:
            # Asked again and again: whoever waits in the store itself cannot be told to end.
            while not self._store.check([_KEY]):
                if deadline.expired:
                    raise StartError(
                        f"rank 0 has not said in time where it is, in torchrun's store at "
                        f"{self._where} (HARNESS_ASSEMBLY_TIMEOUT)"
                    )
                time.sleep(_AGAIN_S)
            return json.loads(self._store.get(_KEY))
        except RuntimeError as error:
            raise StartError(f"torchrun's store at {self._where}: {_line(error)}") from error

    # Texts that are to be found when torchrun has started the world again

    def put(self, name: str, text: str) -> None:
        """Keep a text under a name."""
        self._notes.set(name, text)

    def get(self, name: str) -> str | None:
        """The text that is kept under a name; None if there is none."""
        return self._notes.get(name).decode() if self._notes.check([name]) else None

    def is_first(self, name: str) -> bool:
        """Whether nobody has asked this with the same name before."""
        return int(self._notes.add(name, 1)) == 1


def board_of(place: GivenPlace, deadline: Deadline) -> AgentStore | AgreedPort:
    """The board of a given world. Raises StartError if there is no way to it."""
    return AgentStore(place, deadline) if place.has_store else AgreedPort(place)


def _timeout(deadline: Deadline) -> timedelta:
    return timedelta(seconds=max(1.0, deadline.remaining_s() or 0.0))


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
