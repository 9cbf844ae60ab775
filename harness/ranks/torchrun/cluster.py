"""Rank 0's view of torchrun's world: its processes, and worlds of ranks on them for tests."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace

from harness.model.clock import Deadline
from harness.model.spec import LaunchSpec
from harness.model.surroundings import Surroundings
from harness.model.topology import spread
from harness.model.torchrun_environ import TorchrunPlace
from harness.ranks.descriptors import readable
from harness.ranks.launch.environment import rank_threads
from harness.ranks.launch.launcher import ProcessFactory
from harness.ranks.stores import LOOPBACK
from harness.ranks.torchrun.gathering import Member, interface_of
from harness.ranks.torchrun.links import ANY_ADDRESS, Link
from harness.ranks.torchrun.messages import Leave, Preload
from harness.ranks.torchrun.peer import Peer
from harness.ranks.torchrun.process_changes import ProcessChanges, changes
from harness.ranks.torchrun.world import TorchrunWorld
from harness.ranks.world import World

# How long the other processes may take to exit.
_LEAVING_S = 10.0


# States of the cluster:
#
#   gathered   all peers are connected; tests can start
#   lost       a peer has gone (`why_lost()` is not empty); no more tests can start
#   left       `leave()` has sent the exit code to all peers; reached from both
#
# Ranks are numbered per test. A test with fewer ranks than there are processes uses some of them,
# and always this one.


class TorchrunRanks:
    """The processes of torchrun's world, each of which can run a rank of a test.

    Args:
        place: the place of this process, which must be rank 0.
        members: all processes, by rank.
        links: the connections to all but rank 0.
        base: this process's surroundings at the start of the run.
    """

    def __init__(
        self,
        place: TorchrunPlace,
        members: Sequence[Member],
        links: Mapping[int, Link],
        base: Surroundings,
    ) -> None:
        self.members = members
        self._base = base
        self._peers = {rank: Peer(members[rank], link) for rank, link in sorted(links.items())}
        hosts = {member.group for member in members}
        self.host_count = len(hosts)
        #: The address on which the stores of tests listen: the one on which rank 0 listened.
        self.store_address = LOOPBACK if place.is_on_one_host else self._own_address()
        #: The address at which others find this host, and its interface; None for one host alone.
        self._address = self.store_address
        if self._address == ANY_ADDRESS:
            self._address = self._address_for_others()
        self.interface = None if place.is_on_one_host else interface_of(self._address)
        silent: set[int] = set()
        for peer in self._peers.values():
            peer.all, peer.silent_hosts = list(self._peers.values()), silent
            if peer.member.system != members[0].system:
                peer.compare_clocks()

    def _own_address(self) -> str:
        """Return the address to which all peers connected; the wildcard address if several."""
        found = {peer.link.own_address for peer in self._peers.values()}
        return found.pop() if len(found) == 1 else ANY_ADDRESS if found else LOOPBACK

    def _address_for_others(self) -> str:
        for peer in self._peers.values():
            if peer.member.group != self.members[0].group:
                return peer.link.own_address
        return LOOPBACK

    @property
    def size(self) -> int:
        return len(self.members)

    @property
    def device_count(self) -> int:
        """Return the number of devices of all hosts.

        Processes of a host may all see all its devices, or each only its own: count each set once.
        """
        seen = {(m.group, m.visible): m.devices for m in self.members}
        return sum(seen.values())

    def why_lost(self) -> str:
        """Return why no more tests can run, if a process has gone; otherwise an empty text."""
        for peer in self._peers.values():
            peer.pump()
        lost = [peer for peer in self._peers.values() if peer.is_lost]
        first = next((peer for peer in lost if peer.has_died), lost[0] if lost else None)
        return f"{first.member}: {first.why_lost}" if first is not None else ""

    # Worlds for tests

    def placed(self, spec: LaunchSpec, nodes: int | None) -> LaunchSpec:
        """Return the spec with its nodes: real hosts if they fit, simulated ones otherwise."""
        if nodes is None:
            return replace(
                spec, node_sizes=self._sizes(range(spec.world_size)), has_real_nodes=True
            )
        sizes = spread(spec.world_size, nodes, spec.test_id)
        is_real = self._ranks_on_hosts(sizes) is not None
        return replace(spec, node_sizes=sizes, has_real_nodes=is_real)

    def start(self, spec: LaunchSpec, factory: ProcessFactory) -> World:
        """Start the ranks of a test, each in its process of the world."""
        chosen: Sequence[int] = range(spec.world_size)
        if spec.has_real_nodes:
            chosen = self._ranks_on_hosts(spec.node_sizes) or chosen
        world = TorchrunWorld(
            spec.world_folder,
            self.members[0],
            [self._peers.get(rank) for rank in chosen],
            self._changes,
            self._own_spec,
        )
        world.address_of_stores = self.store_address
        return world.begin(spec, factory, range(spec.world_size))

    def _sizes(self, ranks: Sequence[int]) -> tuple[int, ...]:
        groups = itertools.groupby(ranks, key=lambda rank: self.members[rank].group)
        return tuple(len(list(members)) for _, members in groups)

    def _ranks_on_hosts(self, sizes: Sequence[int]) -> list[int] | None:
        """Return the first `sizes[i]` processes of the ith host; None if there are not enough.

        This process is always the first.
        """
        by_host: dict[int, list[int]] = {}
        for member in self.members:
            by_host.setdefault(member.group, []).append(member.rank)
        chosen: list[int] = []
        hosts = list(by_host.values())
        for size in sizes:
            host = next((ranks for ranks in hosts if len(ranks) >= size), None)
            if host is None or (not chosen and host[0] != 0):
                return None
            hosts.remove(host)
            chosen += host[:size]
        return chosen

    def _changes(self) -> ProcessChanges:
        return changes(self._base, Surroundings.now())

    def _own_spec(self, spec: LaunchSpec) -> LaunchSpec:
        on_this_host = spec.node_sizes[0] if spec.has_real_nodes else spec.world_size
        return replace(spec, threads=rank_threads(on_this_host), store_host=self._address)

    # All processes

    def learn(self, modules: Sequence[str]) -> None:
        """Have the other fork servers preload what ranks had to import themselves."""
        for peer in self._peers.values():
            peer.link.send(Preload(tuple(modules)))

    def leave(self, code: int) -> None:
        """Have all other processes exit with this code, and wait until they do."""
        for peer in self._peers.values():
            peer.link.send(Leave(code))
        deadline = Deadline.after(_LEAVING_S)
        left = [peer for peer in self._peers.values() if not peer.link.closed]
        while left and readable([peer.link.fd for peer in left], deadline):
            for peer in left:
                peer.pump()
            left = [peer for peer in left if not peer.link.closed]


_current: TorchrunRanks | None = None


def use(ranks: TorchrunRanks | None) -> None:
    """Run the tests of this process on these ranks from now on; None for its own."""
    global _current
    _current = ranks


def current() -> TorchrunRanks | None:
    """Return torchrun's ranks for the tests of this process; None if it starts its own."""
    return _current


def placed(spec: LaunchSpec, nodes: int | None, ranks: TorchrunRanks | None) -> LaunchSpec:
    """Return the spec with its ranks spread over nodes.

    Args:
        spec: the spec.
        nodes: how many nodes the test asks for; None if it does not.
        ranks: torchrun's ranks; None for this process's own.

    Raises:
        WorldSizeError: if there are more nodes than ranks.
    """
    if ranks is not None:
        return ranks.placed(spec, nodes)
    if nodes is None:
        return spec
    return replace(spec, node_sizes=spread(spec.world_size, nodes, spec.test_id))


def start_world(spec: LaunchSpec, factory: ProcessFactory, ranks: TorchrunRanks | None) -> World:
    """Start the ranks of a test: on torchrun's processes, or as children of this one."""
    return World.start(spec, factory) if ranks is None else ranks.start(spec, factory)


def store_address(ranks: TorchrunRanks | None) -> str:
    """Return the address of this host at which all ranks reach its stores."""
    return LOOPBACK if ranks is None else ranks.store_address
