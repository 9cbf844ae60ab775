"""From bytes that Hypothesis chose to a tensor: its elements, and how they lie in memory."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import torch

#: So many elements have a byte each; those behind them are made from a seed.
HEAD = 32
SEED_BYTES = 4

Shape = tuple[int, ...]


def bytes_needed(shape: Shape | None) -> int:
    """How many bytes to draw for a tensor: as many for every shape, if it is not yet known.

    Were it as many as the shape needs, then a smaller shape would be other bytes, and Hypothesis
    could not keep the values while it makes the shape smaller.
    """
    if shape is None or prod(shape) > HEAD:
        return HEAD + SEED_BYTES
    return prod(shape)


def filled(shape: Shape, numbers: torch.Tensor, choice: bytes) -> torch.Tensor:
    """A contiguous tensor whose first 32 elements are those that the bytes stand for.

    Args:
        shape: of the tensor.
        numbers: the number of each byte; its dtype will be the tensor's.
        choice: `bytes_needed()` of them, of which the last stands for the first element: where the
            order of elements does not matter, Hypothesis puts the larger bytes behind the smaller
            ones, and what is left of a tensor when it gets smaller is its beginning. The first four
            of 36 are the seed of all further elements; a seed of zero makes them zero.
    """
    count = prod(shape)
    head = min(count, HEAD)
    indices = list(reversed(choice[len(choice) - head :]))
    values = numbers[torch.tensor(indices, dtype=torch.int64)]
    if count > HEAD:
        tail = _tail(numbers, count - HEAD, int.from_bytes(choice[:SEED_BYTES], "little"))
        values = torch.cat([values, tail])
    return values.reshape(shape)


def tiled(shape: Shape, values: list[object], dtype: torch.dtype) -> torch.Tensor:
    """A contiguous tensor of these values, again and again from the first if it has more.

    Raises:
        ValueError: if one of them is no number of the dtype; the message names both.
    """
    try:
        head = torch.tensor(values, dtype=dtype)
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"elements drew {values!r}, of which {dtype} cannot be made") from error
    count = prod(shape)
    if count > len(values):
        head = head.repeat(-(-count // len(values)))[:count]
    return head.reshape(shape)


def _tail(numbers: torch.Tensor, count: int, seed: int) -> torch.Tensor:
    if not seed:
        return numbers[:1].expand(count)
    generator = torch.Generator().manual_seed(seed)
    return numbers[torch.randint(len(numbers), (count,), generator=generator)]


def _with_offset(values: torch.Tensor) -> torch.Tensor:
    storage = values.new_zeros(values.numel() + 1)
    return storage[1:].view(values.shape)


def _with_gaps(values: torch.Tensor) -> torch.Tensor:
    return values.new_zeros((*values.shape, 2))[..., 0]


def _with_dimensions_reversed(values: torch.Tensor) -> torch.Tensor:
    return values.new_zeros(values.shape[::-1]).permute([*reversed(range(values.dim()))])


#: Simplest first. Of a tensor with one element or one dimension some are the same.
LAYOUTS: tuple[Callable[[torch.Tensor], torch.Tensor] | None, ...] = (
    None,
    _with_offset,
    _with_gaps,
    _with_dimensions_reversed,
)
#: The first so many of them are contiguous.
CONTIGUOUS_LAYOUTS = 2


def laid_out(values: torch.Tensor, layout: int) -> torch.Tensor:
    """The values of a contiguous tensor in memory that is laid out in one of the `LAYOUTS`."""
    allocate = LAYOUTS[layout]
    return values if allocate is None else allocate(values).copy_(values)
