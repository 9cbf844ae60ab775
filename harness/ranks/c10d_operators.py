"""Read the arguments of the operators of c10d."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

from harness.model.communication import Sizes
from harness.ranks.regions import Region, region_of

# The functions of torch.distributed that end at an operator, where its name is another.
_NAMES = {
    "allreduce": "all_reduce",
    "allreduce_coalesced": "all_reduce_coalesced",
    "allgather": "all_gather",
    "_allgather_base": "all_gather_into_tensor",
    "allgather_coalesced": "all_gather_coalesced",
    "allgather_into_tensor_coalesced": "all_gather_into_tensor_coalesced",
    "_reduce_scatter_base": "reduce_scatter_tensor",
    "alltoall": "all_to_all",
    "alltoall_base": "all_to_all_single",
    "recv_any_source": "recv",
}
# The arguments of the operators, by name in their schemas (torch 2.13).
_GIVES = frozenset({"input_tensors", "input_tensor", "input_list", "inputs", "input"})
_TAKES = frozenset({"output_tensors", "output_tensor", "output_lists", "outputs", "output"})
_BOTH = frozenset({"tensors"})


class OperatorReader:
    """Reads the arguments of one operator.

    Attributes:
        op: the function of torch.distributed.
        process_group: the number of the argument; None if the operator has none.
        is_in_place: whether it may write to the tensors that the rank gives.
    """

    def __init__(self, operator: Any) -> None:
        schema = operator._schema
        name = schema.name.partition("::")[2].removesuffix("_")
        self.op = _NAMES.get(name, name)
        numbers = {argument.name: i for i, argument in enumerate(schema.arguments)}
        self.process_group = numbers.get("process_group")
        self._root = numbers.get("root_rank")
        self._reduction = numbers.get("reduce_op")
        self._peer = numbers.get("dst", numbers.get("src"))
        self._tag = numbers.get("tag")
        self._async = numbers.get("async_op")
        self._gives_splits = numbers.get("input_split_sizes")
        self._takes_splits = numbers.get("output_split_sizes")
        self._gives = _number(numbers, _GIVES | _BOTH) if self.op != "recv" else None
        self._takes = _number(numbers, _TAKES if self.op != "recv" else _BOTH)
        self.is_in_place = self.op not in {"send", "recv"} and not _BOTH.isdisjoint(numbers)

    def is_async(self, args: tuple[Any, ...]) -> bool:
        """Whether the caller has to wait for it; yes if the schema does not say."""
        return True if self._async is None else bool(_argument(args, self._async, True))

    def gives(self, args: tuple[Any, ...]) -> list[Any]:
        return [] if self._gives is None else _tensors(args[self._gives])

    def takes(self, args: tuple[Any, ...]) -> list[Any]:
        return [] if self._takes is None else _tensors(args[self._takes])

    def key(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return everything but tensors, group and place, hashable: the arguments of `call`."""
        return (
            _reduction(_argument(args, self._reduction, None)),
            _argument(args, self._root, None),
            _argument(args, self._peer, None),
            _argument(args, self._tag, 0),
            tuple(_argument(args, self._gives_splits, ())),
            tuple(_argument(args, self._takes_splits, ())),
        )

    def regions(self, gives: list[Any], takes: list[Any], is_root: bool | None) -> list[Region]:
        """Return the memory that the operation uses until somebody waits for it."""
        only_reads = not self.is_in_place or (self.op == "broadcast" and is_root is True)
        return regions_of(gives, takes, only_reads)


def regions_of(gives: list[Any], takes: list[Any], only_reads: bool) -> list[Region]:
    """Return the memory of tensors that an operation uses.

    Args:
        gives: the tensors that the rank contributes.
        takes: those that it receives into.
        only_reads: whether the operation only reads the first ones.
    """
    regions = [region_of(tensor, only_reads) for tensor in gives]
    regions += [region_of(tensor, False) for tensor in takes]
    return [region for region in regions if region is not None]


def _number(numbers: dict[str, int], names: Iterable[str]) -> int | None:
    return next((numbers[name] for name in names if name in numbers), None)


def _argument(args: tuple[Any, ...], number: int | None, default: Any) -> Any:
    # The dispatcher leaves out trailing arguments that have their default value.
    return default if number is None or number >= len(args) else args[number]


def _tensors(value: Any) -> list[Any]:
    if isinstance(value, list | tuple):
        return [tensor for item in value for tensor in _tensors(item)]
    return [value]


def sizes_of(tensors: list[Any]) -> Sizes:
    return tuple(tuple(tensor.shape) for tensor in tensors)


def dtypes_of(tensors: list[Any]) -> tuple[Any, ...]:
    return tuple(tensor.dtype for tensor in tensors)


@functools.cache
def dtype_name(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")


def _reduction(boxed: Any) -> str:
    if boxed is None:
        return ""
    return _reductions().get(boxed.op(), "")


@functools.cache
def _reductions() -> dict[int, str]:
    from torch._C._distributed_c10d import ReduceOp

    return {member.value: name for name, member in ReduceOp.RedOpType.__members__.items()}
