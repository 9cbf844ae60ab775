"""What every collective must compute, as pure functions in one process.

Each takes what all ranks of a group put in, by rank, and returns what each gets out, by rank; None
where torch leaves it open. Autograd sees through all of them, so they are a model of gradients too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce as fold
from typing import Any, TypeVar

import torch
import torch.distributed as dist

T = TypeVar("T")
Tensors = Sequence[torch.Tensor]

_COMBINE: dict[Any, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    dist.ReduceOp.SUM: torch.add,
    dist.ReduceOp.AVG: torch.add,
    dist.ReduceOp.PRODUCT: torch.mul,
    dist.ReduceOp.MIN: torch.minimum,
    dist.ReduceOp.MAX: torch.maximum,
    dist.ReduceOp.BAND: torch.bitwise_and,
    dist.ReduceOp.BOR: torch.bitwise_or,
    dist.ReduceOp.BXOR: torch.bitwise_xor,
}


def reduced(values: Tensors, op: Any = dist.ReduceOp.SUM) -> torch.Tensor:
    """The tensors of all ranks, combined element by element from rank 0 on, in their dtype."""
    total = fold(_COMBINE[op], values)
    return total / len(values) if op == dist.ReduceOp.AVG else total


def all_reduce(values: Tensors, op: Any = dist.ReduceOp.SUM) -> list[torch.Tensor]:
    return [reduced(values, op)] * len(values)


def reduce(values: Tensors, root: int, op: Any = dist.ReduceOp.SUM) -> list[torch.Tensor | None]:
    return only_on(root, reduced(values, op), len(values))


def broadcast(values: Sequence[T], root: int) -> list[T]:
    return [values[root]] * len(values)


def all_gather(values: Sequence[T]) -> list[list[T]]:
    return [list(values)] * len(values)


def all_gather_into_tensor(values: Tensors) -> list[torch.Tensor]:
    """Behind each other, along the first dimension."""
    return [torch.cat(list(values))] * len(values)


def gather(values: Sequence[T], root: int) -> list[list[T] | None]:
    return only_on(root, list(values), len(values))


def scatter(lists: Sequence[Sequence[T]], root: int) -> list[T]:
    return list(lists[root])


def reduce_scatter(lists: Sequence[Tensors], op: Any = dist.ReduceOp.SUM) -> list[torch.Tensor]:
    return [reduced(parts, op) for parts in transposed(lists)]


def reduce_scatter_tensor(values: Tensors, op: Any = dist.ReduceOp.SUM) -> list[torch.Tensor]:
    """Each rank gets its share of the rows."""
    return list(reduced(values, op).chunk(len(values)))


def all_to_all(lists: Sequence[Sequence[T]]) -> list[list[T]]:
    return transposed(lists)


def all_to_all_single(values: Tensors, table: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    """Rank r sends `table[r][s]` of its rows to rank s, in the order of the ranks."""
    parts = [x.split(list(sizes)) for x, sizes in zip(values, table, strict=True)]
    return [torch.cat(received) for received in transposed(parts)]


def in_groups(
    partition: Sequence[Sequence[int]],
    values: Sequence[T],
    collective: Callable[[list[T]], Sequence[Any]],
) -> list[Any]:
    """What each rank of the world gets if each group does a collective of its own.

    Args:
        partition: the global ranks of each group.
        values: by global rank.
        collective: from the values of a group's ranks to what they get.
    """
    found: list[Any] = [None] * len(values)
    for ranks in partition:
        for rank, result in zip(ranks, collective([values[r] for r in ranks]), strict=True):
            found[rank] = result
    return found


def only_on(root: int, value: T, size: int) -> list[T | None]:
    return [value if rank == root else None for rank in range(size)]


def transposed(table: Sequence[Sequence[T]]) -> list[list[T]]:
    """What rank r has for rank s, as what rank s gets from each r."""
    return [list(column) for column in zip(*table, strict=True)]
