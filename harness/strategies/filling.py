"""Make a tensor from bytes that Hypothesis has drawn: its elements, and its layout in memory."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import torch

#: The first elements have a byte each; the others are random numbers from a seed.
HEAD = 32
SEED_BYTES = 4

Shape = tuple[int, ...]


def bytes_needed(shape: Shape | None) -> int:
    """Return how many bytes to draw for a tensor: the same number for all shapes if None.

    If the number depended on a drawn shape, a smaller shape would use other bytes, and Hypothesis
    could not keep the values while it shrinks the shape.
    """
    if shape is None or prod(shape) > HEAD:
        return HEAD + SEED_BYTES
    return prod(shape)


def filled(shape: Shape, numbers: torch.Tensor, choice: bytes) -> torch.Tensor:
    """Return a contiguous tensor whose first 32 elements come from the bytes.

    Args:
        shape: the tensor's shape.
        numbers: the number for each byte value; its dtype is the tensor's.
        choice: `bytes_needed()` bytes, of which the last is for the first element. If the order of
            elements does not matter, Hypothesis sorts smaller bytes first, and a smaller tensor
            keeps its beginning, so this order keeps the larger values. If there are 36 bytes, the
            first four are the seed of all further elements; seed 0 makes them zero.
    """
    count = prod(shape)
    head = min(count, HEAD)
    indices = list(reversed(choice[len(choice) - head :]))
    # A byte is an index into the palette, so a smaller byte is a simpler number.
    values = numbers[torch.tensor(indices, dtype=torch.int64)]
    if count > HEAD:
        tail = _tail(numbers, count - HEAD, int.from_bytes(choice[:SEED_BYTES], "little"))
        values = torch.cat([values, tail])
    return values.reshape(shape)


def tiled(shape: Shape, values: list[object], dtype: torch.dtype) -> torch.Tensor:
    """Return a contiguous tensor of these values, repeated if it has more elements.

    Raises:
        ValueError: if the dtype cannot represent a value; the message names both.
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


#: The simplest first. For tensors with one element or one dimension some of them are equal.
LAYOUTS: tuple[Callable[[torch.Tensor], torch.Tensor] | None, ...] = (
    None,
    _with_offset,
    _with_gaps,
    _with_dimensions_reversed,
)
#: How many of them are contiguous; these come first.
CONTIGUOUS_LAYOUTS = 2


def laid_out(values: torch.Tensor, layout: int) -> torch.Tensor:
    """Return the values of a contiguous tensor in one of the `LAYOUTS`."""
    allocate = LAYOUTS[layout]
    return values if allocate is None else allocate(values).copy_(values)
