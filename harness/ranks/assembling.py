"""How the processes of a given world find each other: by torchrun's store, then by connections.

Rank 0 takes connections, and says in the store where; every other process connects to it. Nobody
takes part before all have come, and all have been started with the same tests, options and code.
"""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass

import psutil

from harness.diagnosis.words import rank_list
from harness.model import settings
from harness.model.clock import Deadline
from harness.model.errors import StartError, UsageError
from harness.model.given import GivenPlace
from harness.ranks import links
from harness.ranks.announcing import Board
from harness.ranks.descriptors import readable
from harness.ranks.joining import Card
from harness.ranks.links import Link
from harness.ranks.stores import LOOPBACK


@dataclass(frozen=True, slots=True)
class Member:
    """One process of the given world.

    Attributes:
        rank: its rank in the given world.
        local_rank: its number on its host.
        group: the number of its host.
        host: the host's name, with its address where two hosts have the same name.
        system: what is the same for processes that share a clock and process ids.
        pid: its process.
        devices: how many devices (GPUs) it sees.
        visible: which of the host's these are, if it has been told.
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
    """Rank 0 waits for all others.

    Args:
        place: rank 0's.
        own: what it says of itself.
        board: where the others look.
    """

    def __init__(self, place: GivenPlace, own: Card, board: Board) -> None:
        self._place = place
        self._own = own
        self._board = board
        self._cards: dict[int, Card] = {0: self._own}
        self._links: dict[int, Link] = {}
        self._strangers: list[Link] = []

    def gather(self, deadline: Deadline, limit_s: float) -> tuple[list[Member], dict[int, Link]]:
        """Wait until all have come.

        Args:
            deadline: until when.
            limit_s: how long that is, for the message.

        Returns:
            all processes, by rank; the connections to all but rank 0.

        Raises:
            StartError: if some have not come by then; the others have been told.
            UsageError: if some have been started otherwise than rank 0; all have been told.
        """
        with contextlib.closing(self._listen()) as listener:
            while len(self._cards) < self._place.world_size:
                fds = [listener.fileno(), *(stranger.fd for stranger in self._strangers)]
                if not readable(fds, deadline):
                    self._give_up(StartError(self._missing(limit_s)))
                self._accept(listener)
                self._hear()
        for stranger in self._strangers:
            stranger.close()
        different = self._differences()
        if different:
            self._give_up(UsageError(different))
        for link in self._links.values():
            link.send({"kind": "welcome"})
        return self._members(), self._links

    def _listen(self) -> socket.socket:
        place = self._place
        host = LOOPBACK if place.is_on_one_host else links.ANY_ADDRESS
        try:
            listener = links.listen(host, self._board.port)
        except OSError as error:
            raise StartError(
                f"rank 0 cannot listen on port {self._board.port} (MASTER_PORT): {error.strerror}"
            ) from error
        addresses = [LOOPBACK] if place.is_on_one_host else _own_addresses(place)
        self._board.announce(addresses, listener.getsockname()[1])
        return listener

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                sock, _ = listener.accept()
                with contextlib.suppress(OSError):  # it has gone already
                    self._strangers.append(Link(sock))

    def _hear(self) -> None:
        for stranger in list(self._strangers):
            try:
                message = stranger.next_message(Deadline.after(0.0))
            except ValueError:  # it speaks otherwise
                message = {"kind": "noise"}
            if message is None and not stranger.closed:
                continue
            self._strangers.remove(stranger)
            if message is not None and links.is_same(self._board.secret, message.get("secret")):
                self._take_in(stranger, Card(**message["card"]))
            else:
                stranger.close()

    def _take_in(self, link: Link, card: Card) -> None:
        other = self._cards.get(card.rank)
        if other is not None:
            self._links.setdefault(-len(self._links) - 1, link)
            self._give_up(
                UsageError(
                    f"two processes have RANK={card.rank}: process {other.pid} on {other.host} "
                    f"and process {card.pid} on {card.host}"
                )
            )
        link.send({"kind": "joined"})
        self._cards[card.rank], self._links[card.rank] = card, link

    def _give_up(self, error: StartError | UsageError) -> None:
        for link in self._links.values():
            link.send({"kind": "unusable", "text": str(error), "host": self._own.host})
            link.close()
        raise error

    def _missing(self, limit_s: float) -> str:
        size, per_host = self._place.world_size, self._place.local_world_size
        missing = [rank for rank in range(size) if rank not in self._cards]
        nodes = sorted({rank // per_host for rank in missing}) if per_host else []
        where = f", of node {', '.join(map(str, nodes))}" if nodes and nodes != [0] else ""
        hosts = sorted({card.host for card in self._cards.values()})
        return (
            f"{rank_list(missing)} of {size}{where}: not come within {limit_s:g} s "
            f"(HARNESS_ASSEMBLY_TIMEOUT); {rank_list(sorted(self._cards))} came, on "
            f"{', '.join(hosts)}: see what was printed where the others were to start"
        )

    def _differences(self) -> str:
        """What some have been started with otherwise than rank 0; empty if nothing."""
        found: dict[str, list[int]] = {}
        for rank, card in sorted(self._cards.items()):
            for what, value in self._own.identity.items():
                other = card.identity.get(what, "")
                if value and other and other != value:
                    text = f"{what}: {other} on {card.host}, where rank 0 ({self._own.host}) has "
                    text += value
                    found.setdefault(text, []).append(rank)
        told = [f"{rank_list(ranks)}: other {text}" for text, ranks in found.items()]
        if not told:
            return ""
        return "the processes of this world must all be started alike, but " + "; ".join(told)

    def _members(self) -> list[Member]:
        cards = [self._cards[rank] for rank in range(len(self._cards))]
        keys = [(c.group_rank if c.group_rank is not None else c.host, c.host) for c in cards]
        groups = list(dict.fromkeys(keys))
        names = [host for _, host in groups]
        return [
            Member(
                card.rank,
                card.local_rank,
                groups.index(key),
                card.host if names.count(card.host) == 1 else f"{card.host} {self._address(card)}",
                card.system,
                card.pid,
                card.devices,
                card.visible,
            )
            for card, key in zip(cards, keys, strict=True)
        ]

    def _address(self, card: Card) -> str:
        if card.rank in self._links:
            return self._links[card.rank].other_address
        others = (link.own_address for link in self._links.values())
        return next((address for address in others if address != LOOPBACK), LOOPBACK)


def _own_addresses(place: GivenPlace) -> list[str]:
    """The addresses at which other hosts may find this one, the most likely first."""
    found = [_address_towards(place)] if place.master_addr else []
    for addresses in psutil.net_if_addrs().values():
        found += [a.address for a in addresses if a.family == socket.AF_INET]
    known = dict.fromkeys(address for address in found if address)
    return sorted(known, key=lambda address: address.startswith("127."))


def _address_towards(place: GivenPlace) -> str:
    """This host's address on the way to the store's host; empty if there is no way."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:  # nothing is sent
        try:
            probe.connect((place.master_addr, place.master_port))
        except OSError:
            return ""
        return str(probe.getsockname()[0])


def interface_of(address: str) -> str:
    """The network interface that has an address of this host; empty if none has."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(a.address == address for a in addresses):
            return name
    return ""


def deadline_of_assembly() -> tuple[Deadline, float]:
    """Until when all have to come, and how long that is."""
    limit_s = settings.ASSEMBLY_TIMEOUT_S.value()
    return Deadline.after(limit_s), limit_s
