"""Ranks and how they are put together: roots, sizes of groups, groups, and who sends how much."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from harness.model.spec import check_world_size
from harness.strategies.arguments import flag, ranks_of, span, whole_number


def group_sizes(max_size: int, *, min_size: int = 1) -> SearchStrategy[int]:
    """How many ranks take part, fewest first: sizes of worlds and of process groups.

    Args:
        max_size: the largest, such as the size of the world that there is.
        min_size: the smallest.

    Raises:
        WorldSizeError, TypeError, ValueError: if they are not integers above zero, the smaller
            first.
    """
    check_world_size(max_size, "group_sizes()")
    low, high = span(min_size, max_size, "min_size", "max_size", lowest=1)
    return st.integers(low, high)


def roots(world: int | Sequence[int]) -> SearchStrategy[int]:
    """The rank that sends or receives in a collective with a root, the first one first.

    Args:
        world: the size of the world, or the ranks of a group, whose global ranks are drawn.

    Raises:
        WorldSizeError, TypeError, ValueError: if it is not a world size and does not list ranks.
    """
    return st.sampled_from(ranks_of(world, "roots()"))


def groups(
    world: int | Sequence[int], *, min_size: int = 1, max_size: int | None = None
) -> SearchStrategy[tuple[int, ...]]:
    """The ranks of one process group, in rising order; the smallest group of low ranks first.

    Args:
        world: the size of the world, or the ranks to choose from.
        min_size, max_size: of the group; by default up to all of them.

    Raises:
        WorldSizeError, TypeError, ValueError: if the world is not one, or no group has that size.
    """
    ranks = tuple(sorted(ranks_of(world, "groups()")))
    most = len(ranks) if max_size is None else max_size
    low, high = span(min_size, most, "min_size", "max_size", lowest=1)
    if high > len(ranks):
        raise ValueError(f"max_size is {high}, but there are {len(ranks)} ranks")
    return _groups(ranks, low, high)


@st.composite
def _groups(draw: DrawFn, ranks: tuple[int, ...], low: int, high: int) -> tuple[int, ...]:
    left = list(ranks)
    chosen = []
    for _ in range(draw(st.integers(low, high))):
        chosen.append(left.pop(draw(st.integers(0, len(left) - 1))))
    return tuple(sorted(chosen))


def partitions(
    world: int | Sequence[int], *, min_groups: int = 1, max_groups: int | None = None
) -> SearchStrategy[tuple[tuple[int, ...], ...]]:
    """Ways to divide a world into process groups, so that every rank is in just one of them.

    The ranks of a group are in rising order, the groups in the order of their first ranks. One
    group of all ranks comes first.

    Args:
        world: the size of the world, or its ranks.
        min_groups, max_groups: how many groups; by default up to one for each rank.

    Raises:
        WorldSizeError, TypeError, ValueError: if the world is not one, or cannot be divided so.
    """
    ranks = tuple(sorted(ranks_of(world, "partitions()")))
    most = len(ranks) if max_groups is None else max_groups
    low, high = span(min_groups, most, "min_groups", "max_groups", lowest=1)
    if low > len(ranks):
        raise ValueError(f"min_groups is {low}, but there are {len(ranks)} ranks")
    return _partitions(ranks, low, min(high, len(ranks)))


@st.composite
def _partitions(
    draw: DrawFn, ranks: tuple[int, ...], low: int, high: int
) -> tuple[tuple[int, ...], ...]:
    found: list[list[int]] = []
    for i, rank in enumerate(ranks):
        # A rank joins a group that there is or founds the next, which the last ones may have to.
        has_to = low - len(found) >= len(ranks) - i
        number = draw(st.integers(len(found) if has_to else 0, min(len(found), high - 1)))
        if number == len(found):
            found.append([])
        found[number].append(rank)
    return tuple(tuple(group) for group in found)


def split_sizes(total: int, parts: int, *, min_size: int = 0) -> SearchStrategy[tuple[int, ...]]:
    """Ways to divide so many rows into so many parts, as even as can be first; parts may be empty.

    Args:
        total: the sum of the sizes.
        parts: how many sizes.
        min_size: of each part.

    Raises:
        TypeError: if an argument is no integer.
        ValueError: if one is negative, there are no parts, or there are too few rows for them.
    """
    whole_number(total, "total")
    whole_number(parts, "parts", 1)
    whole_number(min_size, "min_size")
    if total < parts * min_size:
        raise ValueError(f"total is {total}, too few for {parts} parts of at least {min_size}")
    return _split_sizes(total, parts, min_size)


@st.composite
def _split_sizes(draw: DrawFn, total: int, parts: int, min_size: int) -> tuple[int, ...]:
    share, rest = divmod(total, parts)
    if not draw(st.booleans()):
        return tuple(share + (part < rest) for part in range(parts))
    free = total - parts * min_size
    cuts = sorted(draw(st.integers(0, free)) for _ in range(parts - 1))
    return tuple(
        min_size + end - start for start, end in zip([0, *cuts], [*cuts, free], strict=True)
    )


def split_tables(
    world_size: int, *, max_size: int = 3, even: bool = False
) -> SearchStrategy[tuple[tuple[int, ...], ...]]:
    """How many rows each rank sends to each, for `all_to_all_single` and its like.

    Item r is what rank r sends to ranks 0, 1, …, its input split sizes; what it receives from them,
    its output split sizes, is item r of each of the items. The same number of rows for all comes
    first, one row before none.

    Args:
        world_size: number of ranks.
        max_size: the largest number of rows that one rank sends another.
        even: only tables with the same number everywhere.

    Raises:
        WorldSizeError: if world_size is not an integer above zero.
        TypeError, ValueError: if max_size is no integer or is negative, or even is no bool.
    """
    size = check_world_size(world_size, "split_tables()")
    whole_number(max_size, "max_size")
    return _split_tables(size, max_size, flag(even, "even"))


@st.composite
def _split_tables(
    draw: DrawFn, world_size: int, max_size: int, even: bool
) -> tuple[tuple[int, ...], ...]:
    if even or not draw(st.booleans()):
        return ((draw(_rows(max_size)),) * world_size,) * world_size
    return tuple(tuple(draw(_rows(max_size)) for _ in range(world_size)) for _ in range(world_size))


@cache
def _rows(most: int) -> SearchStrategy[int]:
    return st.sampled_from([*range(1, most + 1), 0])
