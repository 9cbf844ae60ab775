"""Shapes of tensors."""

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
    """Shapes of tensors, (1,) first; the shape () and sides of 0 come last.

    So a test that fails on any shape shows (1,), and one that needs no elements to fail shows 0.

    Args:
        min_dims, max_dims: how many dimensions.
        min_side, max_side: how long each may be.
        max_elements: how many elements there may be in all, 1 or more.

    Raises:
        TypeError: if an argument is no integer.
        ValueError: if one is negative, a largest one is below the smallest, or the smallest shape
            has too many elements.
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
    # As many sides are drawn for a shape of few dimensions as for one of many: Hypothesis takes
    # fewer choices for simpler, and what is drawn next keeps its place. The last ones count, since
    # it puts larger choices behind smaller ones.
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
    """The integers from low to high, in this order but for 0, which comes after all others."""
    if low > 0 or high == 0:
        return st.integers(low, high)
    return st.integers(1, high + 1).map(lambda i: 0 if i > high else i)
