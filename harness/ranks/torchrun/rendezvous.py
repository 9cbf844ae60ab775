"""Find rank 0 from a process that torchrun or srun has started, and join its world.

Rank 0 publishes its address in torchrun's store, or listens at MASTER_PORT. The states of a process
that joins:

    looking     no address is published; look again until the deadline
    connecting  try each address; if none answers, look again, since rank 0 may be restarting
    proving     both ends prove that they know the world's secret (`handshake`)
    joining     JoinRequest is sent; Joined, OtherRun or Unusable follows
    waiting     Joined: other processes are missing; Welcome or Unusable follows
    joined      Welcome: the process becomes an agent

Until the state `joining`, the process reads fixed sizes and parses nothing: any process may listen
at that address. At a fixed port, a listener without the secret ends the attempt, because rank 0
cannot be elsewhere. Rank 0's side of this is in `gathering`.
"""

from __future__ import annotations

import socket
import sys
import time
from datetime import timedelta
from typing import Any, NoReturn, Protocol

import msgspec

from harness.model.clock import Deadline
from harness.model.errors import StartError, UsageError
from harness.model.torchrun_environ import TorchrunPlace
from harness.ranks.torchrun import links
from harness.ranks.torchrun.handshake import (
    NoAnswerError,
    NotProvenError,
    claim_of,
    prove,
    signed,
    unsigned,
)
from harness.ranks.torchrun.links import Link
from harness.ranks.torchrun.messages import (
    JoinRequest,
    OtherRun,
    ToJoining,
    Unusable,
    to_joining,
)
from harness.ranks.torchrun.socket_user import (
    is_loopback,
    is_stranger,
    user_of_far_end,
    user_of_listener,
)
from harness.ranks.torchrun.world_secret import WorldSecret

# How long rank 0 may take to answer. It answers at once unless its host is overloaded.
_ANSWER_S = 30.0
# How long to wait before looking up rank 0's address again after a failed attempt.
_RETRY_CONNECT_S = 0.2


class Joining:
    """Joins a process other than rank 0 to rank 0's world.

    Args:
        own: its description of itself.
        place: its place in torchrun's world.
        rendezvous: where to look up rank 0's address.
        secret: the secret of the world.
    """

    def __init__(
        self, own: JoinRequest, place: TorchrunPlace, rendezvous: Rendezvous, secret: WorldSecret
    ) -> None:
        self._own = own
        self._place = place
        self._rendezvous = rendezvous
        self._secret = secret
        #: A description of what answered instead of rank 0, if anything did.
        self._found = ""

    def join(self, deadline: Deadline) -> Link:
        """Connect to rank 0, and wait until all processes have joined.

        Raises:
            StartError: if rank 0 publishes no address, is unreachable, or proves nothing.
            UsageError: if rank 0 rejects this process; the message says why.
        """
        while True:
            rank_0 = self._rendezvous.look(deadline)
            link = self._connected(rank_0, deadline)
            if link is not None:
                self._await_welcome(link, deadline)
                return link
            if deadline.expired:
                break
            time.sleep(_RETRY_CONNECT_S)
        where = ", ".join(f"{address}:{rank_0.port}" for address in rank_0.addresses)
        raise StartError(
            f"rank {self._own.rank} could not connect to rank 0 at {where} in time "
            f"(HARNESS_ASSEMBLY_TIMEOUT){self._found and f': {self._found}'}"
        )

    def _connected(self, rank_0: Address, deadline: Deadline) -> Link | None:
        """Return the connection to rank 0, at the first address that answers."""
        for sock in links.connect(rank_0.addresses, rank_0.port, deadline):
            try:
                return self._proven(sock, deadline)
            except NoAnswerError as error:
                self._found = f"what listens there{_user_text(sock)} {error}"
            except NotProvenError as error:
                self._found = self._unproven_listener(sock, rank_0.port, error)
                if self._rendezvous.port:  # a fixed port: rank 0 can be nowhere else
                    raise StartError(f"rank {self._own.rank}: {self._found}") from None
            finally:
                sock.close()
        return None

    def _proven(self, sock: socket.socket, deadline: Deadline) -> Link:
        try:
            address, port = sock.getpeername()[:2]
        except OSError as error:
            raise NoAnswerError("closed the connection") from error
        if is_loopback(address) and is_stranger(user_of_listener(address, port)):
            raise NotProvenError("belongs to another user")
        limit = Deadline.after(_ANSWER_S).sooner(deadline)
        macs = prove(sock, self._secret, claim_of(self._place), limit)
        # The listener may have passed the connection to a process of another user.
        if is_stranger(user_of_far_end(sock)):
            raise NotProvenError("belongs to another user")
        link = Link(sock.dup(), macs)
        link.send(self._own)
        answer = self._answer(link, deadline)
        if answer is None:
            link.close()
            raise NoAnswerError(f"sent {link.fault}" if link.fault else "closed the connection")
        if isinstance(answer, OtherRun):
            raise StartError(
                f"rank {self._own.rank}: another run of yours is at {address}:{port}; give each "
                "run a MASTER_PORT of its own"
            )
        if isinstance(answer, Unusable):
            self._refuse(answer)
        return link

    def _unproven_listener(self, sock: socket.socket, port: int, error: NotProvenError) -> str:
        try:
            address = sock.getpeername()[0]
        except OSError:  # it has closed the connection
            address = self._place.master_addr
        advice = (
            "give the world another MASTER_PORT"
            if is_loopback(address)
            else f"either another process has this port, or rank 0 has another secret than "
            f"{self._secret.source} here: set HARNESS_WORLD_SECRET to the same text on all hosts"
        )
        return (
            f"what listens at {address}:{port}{_user_text(sock)} has not proved that it is rank 0 "
            f"of this world ({error}), so nothing was run: {advice}"
        )

    def _await_welcome(self, link: Link, deadline: Deadline) -> None:
        answer = self._answer(link, deadline)
        if answer is None:
            why = f": it sent {link.fault}" if link.fault else ""
            raise StartError(f"rank {self._own.rank}: rank 0 ended before all had joined{why}")
        if isinstance(answer, Unusable):
            self._refuse(answer)

    def _answer(self, link: Link, deadline: Deadline) -> ToJoining | None:
        """Wait for rank 0's next message; None if there is none, of which `link.fault` may say why.

        Rank 0 gives up first, at the same deadline, and its message says which ranks are missing.
        """
        data = link.next_message(deadline.later(_ANSWER_S))
        try:
            return None if data is None else to_joining(data)
        except ValueError as error:
            link.fail(f"{data!r:.200} ({error})")
            return None

    def _refuse(self, answer: Unusable) -> NoReturn:
        is_printed_here = self._own.host != answer.host and self._own.local_rank == 0
        raise UsageError(answer.text if is_printed_here else "")


def _user_text(sock: socket.socket) -> str:
    """Return the user of the other end, in brackets; empty if unknown."""
    try:
        address, port = sock.getpeername()[:2]
    except OSError:  # it has closed the connection
        return ""
    user = user_of_far_end(sock)
    if user is None and is_loopback(address):
        user = user_of_listener(address, port)
    return "" if user is None else f" (user id {user})"


_KEY = "harness/rank 0"
# How often to look up whether rank 0 has published its address.
_LOOK_S = 0.1


class Address(msgspec.Struct, frozen=True):
    """Where rank 0 listens: at one of these addresses, on this port."""

    addresses: list[str]
    port: int


class Rendezvous(Protocol):
    """Where rank 0 publishes its address.

    Attributes:
        port: the port on which rank 0 must listen; 0 for any.
    """

    port: int

    def announce(self, rank_0: Address) -> None:
        """Publish rank 0's address; called repeatedly, in case another user overwrites it."""

    def look(self, deadline: Deadline) -> Address:
        """Return rank 0's address.

        Raises:
            StartError: if they are not published in time.
        """


class PortRendezvous:
    """Rank 0 at MASTER_ADDR and MASTER_PORT, where no agent serves a store (under srun, say).

    Args:
        place: the place of this process.
    """

    def __init__(self, place: TorchrunPlace) -> None:
        self.port = place.master_port
        self._address = place.master_addr

    def announce(self, rank_0: Address) -> None:
        """Do nothing: all processes know the port."""

    def look(self, deadline: Deadline) -> Address:
        return Address([self._address], self.port)


class StoreRendezvous:
    """The store of torchrun's agent, which outlives the processes of the world.

    Any user who can connect to the store may read and write it. So values must be signed with the
    world's secret; others are ignored.

    Args:
        place: the place of this process.
        secret: the secret of the world.
        deadline: when to give up connecting.

    Raises:
        StartError: if the store cannot be reached.
    """

    port = 0

    def __init__(self, place: TorchrunPlace, secret: WorldSecret, deadline: Deadline) -> None:
        from torch._C._distributed_c10d import PrefixStore, TCPStore

        self._secret = secret
        self._run = f"where rank 0 of {place.run_id} is"
        self._reports = place.rank == 0
        self._has_reported = False
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

    def announce(self, rank_0: Address) -> None:
        text = msgspec.json.encode(rank_0).decode()
        if self._store.check([_KEY]) and self._read(self._store, _KEY, self._run) is None:
            self._report("the address of rank 0")
        self._store.set(_KEY, signed(self._secret, self._run, text))

    def look(self, deadline: Deadline) -> Address:
        try:
            # Polled: a wait inside the store (C++) would not react to SIGTERM or Ctrl-C.
            while (text := self._read(self._store, _KEY, self._run)) is None:
                if deadline.expired:
                    raise StartError(
                        f"rank 0 did not publish its address in time, in torchrun's store at "
                        f"{self._where} (HARNESS_ASSEMBLY_TIMEOUT); it signs the address with the "
                        f"secret of {self._secret.source}"
                    )
                time.sleep(_LOOK_S)
            return msgspec.json.decode(text, type=Address)
        except RuntimeError as error:
            raise StartError(f"torchrun's store at {self._where}: {_line(error)}") from error

    def _read(self, store: Any, key: str, name: str) -> str | None:
        """Return the value that a process of this world has written; None if there is none."""
        if not store.check([key]):
            return None
        return unsigned(self._secret, name, bytes(store.get(key)))

    def _report(self, what: str) -> None:
        if self._reports and not self._has_reported:
            self._has_reported = True
            print(
                f"another process has written {what} in torchrun's store at {self._where}. Anyone "
                "who can connect may do that: values without this world's signature are ignored",
                file=sys.stderr,
            )

    # Texts for the processes that torchrun starts when it restarts the world

    def put(self, name: str, text: str) -> None:
        """Store a text under a name."""
        self._notes.set(name, signed(self._secret, f"{self._place_of_notes}/{name}", text))

    def get(self, name: str) -> str | None:
        """Return the text under a name; None if there is none."""
        found = self._read(self._notes, name, f"{self._place_of_notes}/{name}")
        if found is None and self._notes.check([name]):
            self._report(f"the note {name!r}")
        return found

    def is_first(self, name: str) -> bool:
        """Return True for the first caller with this name only."""
        try:
            return int(self._notes.add(name, 1)) == 1
        except RuntimeError:  # another user has overwritten the counter
            return True


def rendezvous_of(
    place: TorchrunPlace, secret: WorldSecret, deadline: Deadline
) -> StoreRendezvous | PortRendezvous:
    """Return the rendezvous of torchrun's world. Raises StartError if the store is unreachable."""
    return StoreRendezvous(place, secret, deadline) if place.has_store else PortRendezvous(place)


def _timeout(deadline: Deadline) -> timedelta:
    return timedelta(seconds=max(1.0, deadline.remaining_s() or 0.0))


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
