"""Spread the ranks of a world over nodes, and set torchrun's variables for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.model.errors import WorldSizeError


@dataclass(frozen=True, slots=True)
class NodeRank:
    """A rank and its node, in torchrun's terms.

    Attributes:
        rank: the global rank.
        group_rank: the number of its node.
        local_rank: its number among the ranks of that node.
        local_world_size: the number of ranks on that node.
    """

    rank: int
    group_rank: int
    local_rank: int
    local_world_size: int


def node_rank(rank: int, sizes: Sequence[int]) -> NodeRank:
    """Return the node of a rank.

    Args:
        rank: the global rank.
        sizes: the number of ranks on each node; ranks are numbered node by node.
    """
    first = 0
    for group, size in enumerate(sizes):
        if rank < first + size:
            return NodeRank(rank, group, rank - first, size)
        first += size
    raise IndexError(f"rank {rank} of {sum(sizes)}")


def spread(world_size: int, nodes: int, owner: str) -> tuple[int, ...]:
    """Return the number of ranks on each node, as equal as possible; the first nodes have more.

    Args:
        world_size: the number of ranks.
        nodes: the number of nodes.
        owner: the test, for the message.

    Raises:
        WorldSizeError: if there are fewer ranks than nodes.
    """
    if nodes > world_size:
        raise WorldSizeError(
            f"{owner} needs {nodes} nodes but has a world of {world_size}: every node needs a rank"
        )
    size, more = divmod(world_size, nodes)
    return (size + 1,) * more + (size,) * (nodes - more)


def variables(rank: int, sizes: Sequence[int]) -> dict[str, str]:
    """Return the environment variables that torchrun sets for a rank."""
    node = node_rank(rank, sizes)
    world_size = str(sum(sizes))
    return {
        "RANK": str(rank),
        "WORLD_SIZE": world_size,
        "LOCAL_RANK": str(node.local_rank),
        "LOCAL_WORLD_SIZE": str(node.local_world_size),
        "GROUP_RANK": str(node.group_rank),
        "GROUP_WORLD_SIZE": str(len(sizes)),
        "ROLE_RANK": str(rank),
        "ROLE_WORLD_SIZE": world_size,
        "ROLE_NAME": "default",
    }
