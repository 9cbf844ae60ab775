"""Rank 0's door: connections that prove that they belong to the world come in, others do not.

Nobody is waited for. A stranger who says nothing, or feeds single bytes, has one of a bounded
number of places for a bounded time; when all are taken, the connection that has had its place for
longest loses it, since a rank of the world needs its place for milliseconds.
"""

from __future__ import annotations

import socket
from collections import Counter
from dataclasses import dataclass

from harness.diagnosis.words import count
from harness.model.clock import NEVER, Deadline
from harness.ranks.channel import Message
from harness.ranks.torchrun.handshake import HANDSHAKE_S, Caller, Claim, NotProvenError
from harness.ranks.torchrun.links import Link
from harness.ranks.torchrun.socket_user import is_stranger
from harness.ranks.torchrun.world_secret import WorldSecret

# How many strangers may have a place beside the ranks of the world.
_STRANGERS = 128
# How many connections are taken before those that have come are heard again.
_AT_ONCE = 64
# How many kinds of strangers are told apart.
_KINDS = 5


@dataclass(frozen=True)
class Arrival:
    """A process that belongs to the world.

    Attributes:
        link: the connection to it.
        claim: who it has proved to be.
        card: what else it says of itself.
    """

    link: Link
    claim: Claim
    join_request: Message


class RejectedConnections:
    """The connections that were not let in."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, where: str, why: str) -> None:
        """One more; `where` it came from, and `why` it was not let in."""
        kind = f"from {where}: {why}"
        is_known = kind in self._counts or len(self._counts) < _KINDS
        self._counts[kind if is_known else "from elsewhere"] += 1

    def __bool__(self) -> bool:
        return bool(self._counts)

    def __str__(self) -> str:
        told = (kind if n == 1 else f"{n} {kind}" for kind, n in self._counts.most_common())
        total = count(sum(self._counts.values()), "connection")
        return (
            f"rank 0 turned away {total} that did not prove that they belong to this world "
            f"({'; '.join(told)})"
        )


class Admission:
    """All who have connected to rank 0 and are not in the world yet.

    Args:
        listener: where they connect.
        secret: what they have to know.
        own: who rank 0 is.

    Attributes:
        rejected: those that were not let in.
    """

    def __init__(self, listener: socket.socket, secret: WorldSecret, own: Claim) -> None:
        self._listener = listener
        self._secret = secret
        self._own = own
        self._callers: list[Caller] = []
        self._proven: list[tuple[Link, Claim, Deadline]] = []
        self.rejected = RejectedConnections()

    @property
    def port(self) -> int:
        """The port at which they connect."""
        return int(self._listener.getsockname()[1])

    @property
    def fds(self) -> list[int]:
        """Those become readable when there is something to do."""
        callers = (caller.sock.fileno() for caller in self._callers)
        return [self._listener.fileno(), *callers, *(link.fd for link, _, _ in self._proven)]

    @property
    def deadline(self) -> Deadline:
        """When somebody's time is up."""
        times = (*(c.deadline.at for c in self._callers), *(d.at for _, _, d in self._proven))
        return Deadline(min(times, default=NEVER.at))

    def advance(self) -> list[Arrival]:
        """Take what has come; returns those who are in."""
        for caller in list(self._callers):
            self._advance_caller(caller)
        self._accept()
        return self._take_join_requests()

    def close(self) -> None:
        """Close the door, and all connections of those who are not in."""
        self._listener.close()
        for caller in self._callers:
            caller.sock.close()
        for link, _, _ in self._proven:
            link.close()
        self._callers.clear()
        self._proven.clear()

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                sock, (address, _) = self._listener.accept()
            except BlockingIOError:
                return
            except OSError:  # it has gone already, or there is no descriptor for it now
                if not self._callers:
                    return
                self._evict()
                continue
            caller = Caller(sock, address, self._secret)
            if is_stranger(caller.user):
                self._reject(caller, "another user")
                continue
            if len(self._callers) >= self._own.world_size + _STRANGERS:
                self._evict()
            self._callers.append(caller)
            self._advance_caller(caller)

    def _advance_caller(self, caller: Caller) -> None:
        try:
            proven = caller.advance()
        except NotProvenError as error:
            self._callers.remove(caller)
            self._reject(caller, str(error))
            return
        if proven is None:
            return
        self._callers.remove(caller)
        claim, macs = proven
        try:
            link = Link(caller.sock, macs)
        except OSError:  # it has gone already
            caller.sock.close()
            return
        if claim.run != self._own.run:
            link.send({"kind": "other run"})
            self._reject(caller, "it is of another run of yours")
            return
        self._proven.append((link, claim, Deadline.after(HANDSHAKE_S)))

    def _take_join_requests(self) -> list[Arrival]:
        arrivals = []
        for entry in list(self._proven):
            link, claim, deadline = entry
            join_request = link.next_message(Deadline.after(0.0))
            if join_request is None and not link.closed and not deadline.expired:
                continue
            self._proven.remove(entry)
            if join_request is None:
                why = link.fault or "it did not say more"
                self.rejected.add(f"{link.other_address}, rank {claim.rank}", why)
                link.close()
            else:
                arrivals.append(Arrival(link, claim, join_request))
        return arrivals

    def _evict(self) -> None:
        self._reject(self._callers.pop(0), "its place was needed")

    def _reject(self, caller: Caller, why: str) -> None:
        whose = "" if caller.user is None else f", user id {caller.user}"
        self.rejected.add(f"{caller.address}{whose}", why)
        caller.sock.close()
