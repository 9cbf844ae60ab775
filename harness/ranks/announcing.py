"""Where rank 0 of a given world says where it is: in torchrun's store, or by the port agreed on."""

from __future__ import annotations

import json
import sys
import time
from datetime import timedelta
from typing import Any, Protocol

from harness.model.clock import Deadline
from harness.model.errors import StartError
from harness.model.torchrun_environ import GivenPlace
from harness.ranks.channel import Message
from harness.ranks.torchrun.handshake import signed, unsigned
from harness.ranks.torchrun.world_secret import WorldSecret

_KEY = "harness/rank 0"
# How often a process looks whether rank 0 has said where it is.
_AGAIN_S = 0.1


class Board(Protocol):
    """Where rank 0 says where it is.

    Attributes:
        port: on which port it has to listen; 0 for any.
    """

    port: int

    def announce(self, addresses: list[str], port: int) -> None:
        """Rank 0 listens there. Said again and again, in case that somebody writes over it."""

    def look(self, deadline: Deadline) -> Message:
        """Where it listens, as far as anybody knows: `addresses` and `port`.

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
        self._address = place.master_addr

    def announce(self, addresses: list[str], port: int) -> None:
        """All know it."""

    def look(self, deadline: Deadline) -> Message:
        return {"addresses": [self._address], "port": self.port}


class AgentStore:
    """The store of torchrun's agent, which outlives the processes of the world.

    Any user of its host, and whoever can connect to it, may read and write it. So all that is read
    from it must be signed with the world's secret; anything else counts as not there.

    Args:
        place: of this process.
        secret: of the world.
        deadline: until when it must have answered.

    Raises:
        StartError: if there is no way to it.
    """

    port = 0

    def __init__(self, place: GivenPlace, secret: WorldSecret, deadline: Deadline) -> None:
        from torch._C._distributed_c10d import PrefixStore, TCPStore

        self._secret = secret
        self._run = f"where rank 0 of {place.run_id} is"
        self._tells = place.rank == 0
        self._has_told = False
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
        self._place_of_notes = f"notes of {place.run_id}"

    def announce(self, addresses: list[str], port: int) -> None:
        told = json.dumps({"addresses": addresses, "port": port})
        if self._store.check([_KEY]) and self._read(self._store, _KEY, self._run) is None:
            self._tell("the address of rank 0")
        self._store.set(_KEY, signed(self._secret, self._run, told))

    def look(self, deadline: Deadline) -> Message:
        try:
            # Asked again and again: whoever waits in the store itself cannot be told to end.
            while (told := self._read(self._store, _KEY, self._run)) is None:
                if deadline.expired:
                    raise StartError(
                        f"rank 0 has not said in time where it is, in torchrun's store at "
                        f"{self._where} (HARNESS_ASSEMBLY_TIMEOUT); what the store says is signed "
                        f"with the secret of {self._secret.source}"
                    )
                time.sleep(_AGAIN_S)
            found: Message = json.loads(told)
            return found
        except RuntimeError as error:
            raise StartError(f"torchrun's store at {self._where}: {_line(error)}") from error

    def _read(self, store: Any, key: str, name: str) -> str | None:
        """What a process of this world has written; None if none has."""
        if not store.check([key]):
            return None
        return unsigned(self._secret, name, bytes(store.get(key)))

    def _tell(self, what: str) -> None:
        if self._tells and not self._has_told:
            self._has_told = True
            print(
                f"somebody else has written {what} in torchrun's store at {self._where}, which is "
                "open to all who can connect to it: what is not signed by this world is ignored",
                file=sys.stderr,
            )

    # Texts that are to be found when torchrun has started the world again

    def put(self, name: str, text: str) -> None:
        """Keep a text under a name."""
        self._notes.set(name, signed(self._secret, f"{self._place_of_notes}/{name}", text))

    def get(self, name: str) -> str | None:
        """The text that is kept under a name; None if there is none."""
        found = self._read(self._notes, name, f"{self._place_of_notes}/{name}")
        if found is None and self._notes.check([name]):
            self._tell(f"the note {name!r}")
        return found

    def is_first(self, name: str) -> bool:
        """Whether nobody has asked this with the same name before."""
        try:
            return int(self._notes.add(name, 1)) == 1
        except RuntimeError:  # somebody has written something there that is no number
            return True


def board_of(place: GivenPlace, secret: WorldSecret, deadline: Deadline) -> AgentStore | AgreedPort:
    """The board of a given world. Raises StartError if there is no way to it."""
    return AgentStore(place, secret, deadline) if place.has_store else AgreedPort(place)


def _timeout(deadline: Deadline) -> timedelta:
    return timedelta(seconds=max(1.0, deadline.remaining_s() or 0.0))


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
