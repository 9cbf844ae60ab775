"""The memory that tensors use, and whether two of them share any.

Exact also for tensors with gaps: a column of a matrix spans the other columns, but has none of
their elements.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

# If both of two tensors have gaps, one is compared run by run. With more runs than this, they count
# as apart: a false alarm would be worse.
_MAX_RUNS = 4096

#: Sizes and strides of dimensions, in bytes, the largest stride first.
Layout = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Region:
    """A part of a storage: equal runs of bytes, at regular distances.

    Attributes:
        storage: identifies the storage.
        first, last: the bytes that it spans.
        may_be_read: whether the operation only reads it, so that others may read it, too.
        run: the length of a run.
        layout: of the runs; empty if there is one.
    """

    storage: int
    first: int
    last: int
    may_be_read: bool
    run: int
    layout: Layout = ()

    def overlaps(self, other: Region) -> bool:
        if self.storage != other.storage or self.first >= other.last or other.first >= self.last:
            return False
        one, many = sorted((self, other), key=Region._number_of_runs)
        if one._number_of_runs() > _MAX_RUNS:
            return False
        return any(
            _has_bytes_in(many.first, many.layout, many.run, first, first + one.run)
            for first in one._runs()
        )

    def _number_of_runs(self) -> int:
        number = 1
        for size, _ in self.layout:
            number *= size
        return number

    def _runs(self) -> Iterator[int]:
        for numbers in product(*(range(size) for size, _ in self.layout)):
            steps = zip(numbers, self.layout, strict=True)
            yield self.first + sum(number * stride for number, (_, stride) in steps)


def _has_bytes_in(first: int, layout: Layout, run: int, low: int, high: int) -> bool:
    """Whether any run has a byte from `low` on and before `high`."""
    if not layout:
        return first < high and low < first + run
    (size, stride), inner = layout[0], layout[1:]
    extent = sum((length - 1) * step for length, step in inner) + run
    # The parts that begin before `high` and end after `low`.
    start = max(0, (low - extent - first) // stride + 1)
    stop = min(size, -((first - high) // stride))
    for number in range(start, stop):
        begin = first + number * stride
        if begin >= low or _has_bytes_in(begin, inner, run, low, high):
            return True
    return False


def region_of(tensor: Any, may_be_read: bool) -> Region | None:
    """Return the memory of a tensor; None if it has none of its own (sparse, fake, empty)."""
    try:
        if not tensor.numel():
            return None
        storage = tensor.untyped_storage()._cdata
        run = tensor.element_size()
        first = tensor.storage_offset() * run
        dimensions = [
            (stride * run, size)
            for size, stride in zip(tensor.shape, tensor.stride(), strict=True)
            if size > 1 and stride
        ]
    except (RuntimeError, NotImplementedError, AttributeError):
        return None
    last = first + run + sum((size - 1) * stride for stride, size in dimensions)
    dimensions.sort()
    while dimensions and dimensions[0][0] <= run:
        stride, size = dimensions.pop(0)
        run += (size - 1) * stride
    layout = tuple((size, stride) for stride, size in reversed(dimensions))
    return Region(storage, first, last, may_be_read, run, layout)
