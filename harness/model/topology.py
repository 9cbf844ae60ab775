"""How the ranks of a world are spread over hosts, and the variables that tell a rank so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.model.errors import WorldSizeError


@dataclass(frozen=True, slots=True)
class Seat:
    """Where one rank is.

    Attributes:
        rank: the rank.
        group_rank: the number of its host.
        local_rank: its number among the ranks of that host.
        local_world_size: how many ranks the host has.
    """

    rank: int
    group_rank: int
    local_rank: int
    local_world_size: int


def seat_of(rank: int, sizes: Sequence[int]) -> Seat:
    """The seat of a rank where hosts have so many ranks each, in the order of ranks."""
    first = 0
    for group, size in enumerate(sizes):
        if rank < first + size:
            return Seat(rank, group, rank - first, size)
        first += size
    raise IndexError(f"rank {rank} of {sum(sizes)}")


def spread(world_size: int, nodes: int, owner: str) -> tuple[int, ...]:
    """How many ranks each of so many nodes has: as equal as can be, the first ones more.

    Args:
        world_size: number of ranks.
        nodes: number of nodes.
        owner: whose they are, for the message.

    Raises:
        WorldSizeError: if there are fewer ranks than nodes; the message names the owner.
    """
    if nodes > world_size:
        raise WorldSizeError(
            f"{owner} asks for {nodes} nodes, but has {world_size} ranks: every node needs one"
        )
    size, more = divmod(world_size, nodes)
    return (size + 1,) * more + (size,) * (nodes - more)


def variables(rank: int, sizes: Sequence[int]) -> dict[str, str]:
    """The variables by which torchrun tells a rank where it is."""
    seat = seat_of(rank, sizes)
    world_size = str(sum(sizes))
    return {
        "RANK": str(rank),
        "WORLD_SIZE": world_size,
        "LOCAL_RANK": str(seat.local_rank),
        "LOCAL_WORLD_SIZE": str(seat.local_world_size),
        "GROUP_RANK": str(seat.group_rank),
        "GROUP_WORLD_SIZE": str(len(sizes)),
        "ROLE_RANK": str(rank),
        "ROLE_WORLD_SIZE": world_size,
        "ROLE_NAME": "default",
    }
