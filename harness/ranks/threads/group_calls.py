"""Read the calls of the methods of torch's process group of threads."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch.utils import _pytree as pytree

from harness.model.communication import Call, Sizes
from harness.ranks.call_recorder import user_place


class Op(NamedTuple):
    """How to read the arguments of one method of a process group.

    Attributes:
        name: the function of torch.distributed that calls the method.
        gives: the position of the argument with the tensors that the rank contributes.
        takes: the position of the argument with those that it receives into; None if they are the
            same.
        option: the option that must be equal on all ranks: "reduceOp" or "rootRank".
        splits: the positions of the arguments with the split sizes of what it takes and gives.
    """

    name: str
    gives: int | None
    takes: int | None = None
    option: str = ""
    splits: tuple[int, int] | None = None


# By name of the method. torch has renamed some of them; the table has the old and the new names.
OPS = {
    "allreduce": Op("all_reduce", 0, None, "reduceOp"),
    "allreduce_coalesced": Op("all_reduce_coalesced", 0, None, "reduceOp"),
    "broadcast": Op("broadcast", 0, None, "rootRank"),
    "allgather": Op("all_gather", 1, 0),
    "all_gather_single": Op("all_gather_single", 1, 0),
    "_allgather_base": Op("all_gather_into_tensor", 1, 0),
    "all_gather_single_coalesced": Op("all_gather_single_coalesced", 1, 0),
    "allgather_into_tensor_coalesced": Op("all_gather_into_tensor_coalesced", 1, 0),
    "scatter": Op("scatter", 1, 0, "rootRank"),
    "gather": Op("gather", 1, 0, "rootRank"),
    "reduce_scatter": Op("reduce_scatter", 1, 0, "reduceOp"),
    "reduce_scatter_single": Op("reduce_scatter_single", 1, 0, "reduceOp"),
    "_reduce_scatter_base": Op("reduce_scatter_tensor", 1, 0, "reduceOp"),
    "reduce_scatter_single_coalesced": Op("reduce_scatter_single_coalesced", 1, 0, "reduceOp"),
    "reduce_scatter_tensor_coalesced": Op("reduce_scatter_tensor_coalesced", 1, 0, "reduceOp"),
    "alltoall": Op("all_to_all", 1, 0),
    "all_to_all_single": Op("all_to_all_single", 1, 0, splits=(2, 3)),
    "alltoall_base": Op("all_to_all_single", 1, 0, splits=(2, 3)),
    "barrier": Op("barrier", None),
}


def call_of(op: Op, group: str, arguments: list[Any]) -> Call:
    gives, takes = tensors_of(op, arguments)
    option = getattr(arguments[-1], op.option) if op.option else None
    taken, given = (arguments[number] for number in op.splits) if op.splits else ((), ())
    return Call(
        group,
        op.name,
        gives=_sizes(gives),
        dtypes=_dtypes(gives),
        takes=_sizes(takes),
        take_dtypes=_dtypes(takes),
        reduction=_reduction(option) if op.option == "reduceOp" else "",
        root=option if op.option == "rootRank" else None,
        takes_splits=tuple(taken or ()),
        gives_splits=tuple(given or ()),
        where=user_place(sys._getframe(2)),
    )


def tensors_of(op: Op, arguments: list[Any]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Return the tensors that the rank gives, and those that it takes."""
    gives = [] if op.gives is None else list(_tensors(arguments[op.gives]))
    takes = [] if op.takes is None else list(_tensors(arguments[op.takes]))
    return gives, takes


def _sizes(tensors: Iterable[torch.Tensor]) -> Sizes:
    return tuple(tuple(tensor.shape) for tensor in tensors)


def _dtypes(tensors: Iterable[torch.Tensor]) -> tuple[str, ...]:
    return tuple(str(tensor.dtype).removeprefix("torch.") for tensor in tensors)


def _tensors(value: Any) -> Iterable[torch.Tensor]:
    return (leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor))


def _reduction(option: Any) -> str:
    return str(getattr(option, "op", option)).rpartition(".")[2]
