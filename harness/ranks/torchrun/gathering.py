"""Wait at rank 0 until all other processes have joined.

Rank 0 listens and publishes its address in torchrun's store; every other process connects to it.
The run starts once all have joined with the same tests, options and code:

    accepting   connections prove themselves (`admission`); each JoinRequest adds a member
    complete    all have joined: compare how they were started, send Welcome
    failed      the deadline has passed, or a process does not fit: send Unusable to all, and raise
"""

from __future__ import annotations

import contextlib
import socket
import sys
from dataclasses import dataclass
from typing import NoReturn

import psutil

from harness.diagnosis.words import rank_list
from harness.model.clock import Deadline
from harness.model.errors import StartError, UsageError
from harness.model.torchrun_environ import TorchrunPlace
from harness.ranks.descriptors import readable
from harness.ranks.stores import LOOPBACK
from harness.ranks.torchrun import links
from harness.ranks.torchrun.admission import Admission, Arrival, RejectedConnections
from harness.ranks.torchrun.handshake import claim_of
from harness.ranks.torchrun.links import Link
from harness.ranks.torchrun.messages import (
    Joined,
    JoinRequest,
    Unusable,
    Welcome,
    from_joining,
)
from harness.ranks.torchrun.rendezvous import Address, Rendezvous
from harness.ranks.torchrun.socket_user import is_loopback, user_of_listener
from harness.ranks.torchrun.world_secret import WorldSecret

# How often rank 0 publishes its address again, in case another user has overwritten it.
_ANNOUNCE_S = 0.5


@dataclass(frozen=True, slots=True)
class Member:
    """One process of torchrun's world.

    Attributes:
        rank: its rank in that world.
        local_rank: its number on its host.
        group: the number of its host.
        host: the host's name, with its address where two hosts have the same name.
        system: equal for processes that share a clock and process ids.
        pid: its process.
        devices: how many devices (GPUs) it sees.
        visible: its CUDA_VISIBLE_DEVICES; empty if unset.
    """

    rank: int
    local_rank: int
    group: int
    host: str
    system: str
    pid: int
    devices: int = 0
    visible: str = ""

    def __str__(self) -> str:
        return f"rank {self.rank} ({self.host}, local rank {self.local_rank})"


class Gathering:
    """Waits, at rank 0, for all other processes.

    Args:
        place: rank 0's place.
        own: rank 0's own join request.
        rendezvous: where the others look up the address.
        secret: the secret of the world.
    """

    def __init__(
        self, place: TorchrunPlace, own: JoinRequest, rendezvous: Rendezvous, secret: WorldSecret
    ) -> None:
        self._place = place
        self._own = own
        self._rendezvous = rendezvous
        self._secret = secret
        self._join_requests: dict[int, JoinRequest] = {0: self._own}
        self._links: dict[int, Link] = {}
        self._rejected = RejectedConnections()

    def gather(self, deadline: Deadline, limit_s: float) -> tuple[list[Member], dict[int, Link]]:
        """Wait until all processes have joined.

        Args:
            deadline: when to give up.
            limit_s: the time limit, for the message.

        Returns:
            all processes, by rank; the connections to all but rank 0.

        Raises:
            StartError: if some have not joined in time. The others get the same message.
            UsageError: if some were started differently from rank 0. All get the same message.
        """
        listener, addresses = self._listen()
        admission = Admission(listener, self._secret, claim_of(self._place))
        self._rejected = admission.rejected
        try:
            with contextlib.closing(admission):
                self._accept_all(admission, addresses, deadline, limit_s)
        finally:
            if self._rejected:
                print(self._rejected, file=sys.stderr)
        different = self._differences()
        if different:
            self._give_up(UsageError(different))
        for link in self._links.values():
            link.send(Welcome())
        return self._members(), self._links

    def _accept_all(
        self, admission: Admission, addresses: list[str], deadline: Deadline, limit_s: float
    ) -> None:
        port: int = admission.port
        again = Deadline(0.0)
        while len(self._join_requests) < self._place.world_size:
            if again.expired:
                self._rendezvous.announce(Address(addresses, port))
                again = Deadline.after(_ANNOUNCE_S)
            readable(admission.fds, deadline.sooner(admission.deadline).sooner(again))
            for arrival in admission.advance():
                self._add_member(arrival)
            if deadline.expired and len(self._join_requests) < self._place.world_size:
                self._give_up(StartError(self._missing(limit_s)))

    def _listen(self) -> tuple[socket.socket, list[str]]:
        """Return the listening socket, and the addresses at which others reach it."""
        address = _address_to_listen_at(self._place)
        port = self._rendezvous.port
        try:
            listener = links.listen(address, port)
        except OSError as error:
            user = user_of_listener(address, port)
            by = "" if user is None else f" by a process of user id {user}"
            raise StartError(
                f"rank 0 cannot listen at {address}:{port} (MASTER_ADDR, MASTER_PORT): "
                f"{error.strerror}{by}"
            ) from error
        return listener, [address] if address != links.ANY_ADDRESS else _own_addresses(self._place)

    def _add_member(self, arrival: Arrival) -> None:
        link, claim = arrival.link, arrival.claim
        who = f"rank {claim.rank} ({link.other_address})"
        try:
            join_request = from_joining(arrival.join_request)
        except ValueError as error:
            self._refuse(link, f"{who} sent a join request that rank 0 cannot read: {error}")
        size = self._place.world_size
        if claim.world_size != size:
            self._refuse(
                link, f"{who} was started with WORLD_SIZE={claim.world_size}, rank 0 with {size}"
            )
        if join_request.rank != claim.rank or not 0 <= join_request.rank < size:
            self._refuse(link, f"{who} says that it is rank {join_request.rank} of {size}")
        other = self._join_requests.get(join_request.rank)
        if other is not None:
            self._refuse(
                link,
                f"two processes have RANK={join_request.rank}: process {other.pid} on {other.host} "
                f"and process {join_request.pid} on {join_request.host}",
            )
        link.send(Joined())
        self._join_requests[join_request.rank], self._links[join_request.rank] = join_request, link

    def _refuse(self, link: Link, why: str) -> NoReturn:
        """Give up, since this process does not fit into the world."""
        self._links[-1] = link  # so that it gets the message, too
        self._give_up(UsageError(why))

    def _give_up(self, error: StartError | UsageError) -> NoReturn:
        for link in self._links.values():
            link.send(Unusable(str(error), self._own.host))
            link.close()
        raise error

    def _missing(self, limit_s: float) -> str:
        size, per_host = self._place.world_size, self._place.local_world_size
        missing = [rank for rank in range(size) if rank not in self._join_requests]
        nodes = sorted({rank // per_host for rank in missing}) if per_host else []
        word = "node" if len(nodes) == 1 else "nodes"
        where = f" ({word} {', '.join(map(str, nodes))})" if nodes and nodes != [0] else ""
        hosts = sorted({join_request.host for join_request in self._join_requests.values()})
        return (
            f"{rank_list(missing)} of {size}{where} did not join within {limit_s:g} s "
            f"(HARNESS_ASSEMBLY_TIMEOUT); {rank_list(sorted(self._join_requests))} joined, on "
            f"{', '.join(hosts)}: check the output where the others were started"
        )

    def _differences(self) -> str:
        """Return how some processes were started differently from rank 0; empty if none."""
        found: dict[str, list[int]] = {}
        for rank, join_request in sorted(self._join_requests.items()):
            for what, value in self._own.identity.items():
                other = join_request.identity.get(what, "")
                if value and other and other != value:
                    text = (
                        f"{what}: {other} on {join_request.host}, where rank 0 "
                        f"({self._own.host}) has {value}"
                    )
                    found.setdefault(text, []).append(rank)
        texts = [f"{rank_list(ranks)}: other {text}" for text, ranks in found.items()]
        if not texts:
            return ""
        return "all processes must be started the same way, but " + "; ".join(texts)

    def _members(self) -> list[Member]:
        join_requests = [self._join_requests[rank] for rank in range(len(self._join_requests))]
        keys = [
            (c.group_rank if c.group_rank is not None else c.host, c.host) for c in join_requests
        ]
        groups = list(dict.fromkeys(keys))
        names = [host for _, host in groups]
        return [
            Member(
                join_request.rank,
                join_request.local_rank,
                groups.index(key),
                join_request.host
                if names.count(join_request.host) == 1
                else f"{join_request.host} {self._address(join_request)}",
                join_request.system,
                join_request.pid,
                join_request.devices,
                join_request.visible,
            )
            for join_request, key in zip(join_requests, keys, strict=True)
        ]

    def _address(self, join_request: JoinRequest) -> str:
        if join_request.rank in self._links:
            return self._links[join_request.rank].other_address
        others = (link.own_address for link in self._links.values())
        return next((address for address in others if address != LOOPBACK), LOOPBACK)


def _address_to_listen_at(place: TorchrunPlace) -> str:
    """Return the one address of this host that the others use, or the wildcard if unknown."""
    if place.is_on_one_host:
        return LOOPBACK
    towards = _address_towards(place)
    if towards and not is_loopback(towards):
        return towards
    if place.master_addr == "localhost" or is_loopback(place.master_addr):
        return LOOPBACK
    # On Debian, a host's own name resolves to a loopback address (127.0.1.1) on that host only.
    return links.ANY_ADDRESS


def _own_addresses(place: TorchrunPlace) -> list[str]:
    """Return the addresses at which other hosts may reach this one, the most likely first."""
    found = [_address_towards(place)] if place.master_addr else []
    for addresses in psutil.net_if_addrs().values():
        found += [a.address for a in addresses if a.family == socket.AF_INET]
    known = dict.fromkeys(address for address in found if address)
    return sorted(known, key=lambda address: address.startswith("127."))


def _address_towards(place: TorchrunPlace) -> str:
    """Return this host's address on the route to the store's host; empty if there is no route."""
    with socket.socket(
        socket.AF_INET, socket.SOCK_DGRAM
    ) as probe:  # connect() on UDP sends nothing
        try:
            probe.connect((place.master_addr, place.master_port))
        except OSError:
            return ""
        return str(probe.getsockname()[0])


def interface_of(address: str) -> str:
    """Return the network interface with this address; empty if there is none."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(a.address == address for a in addresses):
            return name
    return ""
