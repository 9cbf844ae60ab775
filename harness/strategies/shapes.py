"""A strategy for shapes of tensors."""

from __future__ import annotations

from functools import cache

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from harness.strategies.arguments import span, whole_number
from harness.strategies.filling import Shape


def shapes(
    *,
    min_dims: int = 0,
    max_dims: int = 3,
    min_side: int = 0,
    max_side: int = 4,
    max_elements: int = 32,
) -> SearchStrategy[Shape]:
    """Draw shapes of tensors, (1,) first; the shape () and sides of 0 come last.

    So a test that fails for any shape is shown with (1,). A 0 is only shown if the failure needs a
    tensor without elements.

    Args:
        min_dims, max_dims: the number of dimensions.
        min_side, max_side: the length of each dimension.
        max_elements: the largest number of elements, 1 or more.

    Raises:
        TypeError: if an argument is not an integer.
        ValueError: if an argument is negative, a maximum is below its minimum, or the smallest
            shape has too many elements.
    """
    dims = span(min_dims, max_dims, "min_dims", "max_dims")
    sides = span(min_side, max_side, "min_side", "max_side")
    limit = whole_number(max_elements, "max_elements", 1)
    if sides[0] ** dims[0] > limit:
        raise ValueError(
            f"max_elements is {limit}, but {dims[0]} sides of {sides[0]} have "
            f"{sides[0] ** dims[0]} elements"
        )
    most = max(count for count in range(dims[0], dims[1] + 1) if sides[0] ** count <= limit)
    return _shapes((dims[0], most), sides, limit)


@st.composite
def _shapes(draw: DrawFn, dims: tuple[int, int], sides: tuple[int, int], limit: int) -> Shape:
    # Always draw the same number of sides: Hypothesis prefers fewer choices, so a shape of few
    # dimensions would count as simpler than (1,), and later draws would change their position. The
    # last sides count, because Hypothesis sorts larger choices after smaller ones.
    count = draw(_zero_last(*dims))
    unused = dims[1] - count
    shape: list[int] = []
    left = limit
    for i in range(dims[1]):
        if i == unused:
            left = limit
        least = max(sides[0], 1) ** (min(count, dims[1] - i) - 1)
        longest = min(sides[1], left // least)
        side = draw(_zero_last(min(sides[0], longest), longest))
        if i >= unused:
            shape.append(side)
            left = left // side if side else limit
    return tuple(shape)


@cache
def _zero_last(low: int, high: int) -> SearchStrategy[int]:
    """Draw the integers from low to high in this order, except that 0 comes last."""
    if low > 0 or high == 0:
        return st.integers(low, high)
    return st.integers(1, high + 1).map(lambda i: 0 if i > high else i)
