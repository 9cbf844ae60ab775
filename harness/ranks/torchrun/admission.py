"""Accept connections at rank 0 from processes that prove that they belong to this world.

It never blocks on a connection. A stranger who sends nothing, or single bytes, occupies one of a
limited number of places for a limited time. When all places are taken, the oldest connection loses
its place: a rank of this world needs its place only for milliseconds.
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
from harness.ranks.torchrun.messages import OtherRun
from harness.ranks.torchrun.socket_user import is_stranger
from harness.ranks.torchrun.world_secret import WorldSecret

# The number of places beyond one for each rank of the world.
_STRANGERS = 128
# How many connections to accept before reading from the accepted ones again.
_AT_ONCE = 64
# How many kinds of rejected connections the message lists.
_KINDS = 5


@dataclass(frozen=True)
class Arrival:
    """A process that has proved that it belongs to the world.

    Attributes:
        link: the connection to it.
        claim: its proven rank and world.
        join_request: its description of itself, not yet validated.
    """

    link: Link
    claim: Claim
    join_request: Message


class RejectedConnections:
    """Counts the rejected connections, for the message about them."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, where: str, why: str) -> None:
        """Count a connection from `where`, rejected for `why`."""
        kind = f"from {where}: {why}"
        is_known = kind in self._counts or len(self._counts) < _KINDS
        self._counts[kind if is_known else "from elsewhere"] += 1

    def __bool__(self) -> bool:
        return bool(self._counts)

    def __str__(self) -> str:
        texts = (kind if n == 1 else f"{n} {kind}" for kind, n in self._counts.most_common())
        total = count(sum(self._counts.values()), "connection")
        return (
            f"rank 0 rejected {total} that did not prove that they belong to this world "
            f"({'; '.join(texts)})"
        )


class Admission:
    """The connections to rank 0 that have not joined the world yet.

    A connection is first in `_callers` (handshake), then in `_proven` (waits for its join request),
    then returned as an `Arrival`. Both steps have a deadline.

    Args:
        listener: the listening socket.
        secret: the secret of the world.
        own: the claim of rank 0.

    Attributes:
        rejected: the rejected connections.
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
        """The port of the listener."""
        return int(self._listener.getsockname()[1])

    @property
    def fds(self) -> list[int]:
        """The descriptors that are readable when there is something to do."""
        callers = (caller.sock.fileno() for caller in self._callers)
        return [self._listener.fileno(), *callers, *(link.fd for link, _, _ in self._proven)]

    @property
    def deadline(self) -> Deadline:
        """The earliest deadline of a connection."""
        times = (*(c.deadline.at for c in self._callers), *(d.at for _, _, d in self._proven))
        return Deadline(min(times, default=NEVER.at))

    def advance(self) -> list[Arrival]:
        """Handle what has arrived; return the processes that have joined."""
        for caller in list(self._callers):
            self._advance_caller(caller)
        self._accept()
        return self._take_join_requests()

    def close(self) -> None:
        """Close the listener and all connections that have not joined."""
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
            except OSError:  # it has gone already, or this process is out of descriptors
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
            link.send(OtherRun())
            self._reject(caller, "it belongs to another run of yours")
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
                why = link.fault or "it sent no join request"
                self.rejected.add(f"{link.other_address}, rank {claim.rank}", why)
                link.close()
            else:
                arrivals.append(Arrival(link, claim, join_request))
        return arrivals

    def _evict(self) -> None:
        self._reject(self._callers.pop(0), "its slot was needed")

    def _reject(self, caller: Caller, why: str) -> None:
        whose = "" if caller.user is None else f", user id {caller.user}"
        self.rejected.add(f"{caller.address}{whose}", why)
        caller.sock.close()
