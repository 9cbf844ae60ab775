"""Strategies for ranks: roots, group sizes, groups, partitions, and split sizes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from harness.model.spec import check_world_size
from harness.strategies.arguments import flag, ranks_of, span, whole_number


def group_sizes(max_size: int, *, min_size: int = 1) -> SearchStrategy[int]:
    """Draw sizes of worlds or process groups, the smallest first.

    Args:
        max_size: the largest size, such as the world size.
        min_size: the smallest size.

    Raises:
        WorldSizeError, TypeError, ValueError: if they are not integers above zero, or the smallest
            size is above the largest.
    """
    check_world_size(max_size, "group_sizes()")
    low, high = span(min_size, max_size, "min_size", "max_size", lowest=1)
    return st.integers(low, high)


def roots(world: int | Sequence[int]) -> SearchStrategy[int]:
    """Draw the root rank of a collective, the first rank first.

    Args:
        world: the world size, or the global ranks of a group.

    Raises:
        WorldSizeError, TypeError, ValueError: if it is neither a world size nor a list of ranks.
    """
    return st.sampled_from(ranks_of(world, "roots()"))


def groups(
    world: int | Sequence[int], *, min_size: int = 1, max_size: int | None = None
) -> SearchStrategy[tuple[int, ...]]:
    """Draw the ranks of a process group in ascending order; small groups of low ranks first.

    Args:
        world: the world size, or the ranks to choose from.
        min_size, max_size: the size of the group; by default up to all ranks.

    Raises:
        WorldSizeError, TypeError, ValueError: if the world or a size is not valid.
    """
    ranks = tuple(sorted(ranks_of(world, "groups()")))
    most = len(ranks) if max_size is None else max_size
    low, high = span(min_size, most, "min_size", "max_size", lowest=1)
    if high > len(ranks):
        raise ValueError(f"max_size is {high}, but there are {len(ranks)} ranks")
    return _groups(ranks, low, high)


@st.composite
def _groups(draw: DrawFn, ranks: tuple[int, ...], low: int, high: int) -> tuple[int, ...]:
    # Draws without replacement: each draw is an index into what is left, so index 0, the lowest
    # rank, is the simplest.
    left = list(ranks)
    chosen = []
    for _ in range(draw(st.integers(low, high))):
        chosen.append(left.pop(draw(st.integers(0, len(left) - 1))))
    return tuple(sorted(chosen))


def partitions(
    world: int | Sequence[int], *, min_groups: int = 1, max_groups: int | None = None
) -> SearchStrategy[tuple[tuple[int, ...], ...]]:
    """Draw partitions of a world into process groups: every rank is in exactly one group.

    The ranks of a group are in ascending order, the groups in the order of their first ranks. One
    group of all ranks comes first.

    Args:
        world: the world size, or its ranks.
        min_groups, max_groups: the number of groups; by default up to one for each rank.

    Raises:
        WorldSizeError, TypeError, ValueError: if the world or a number of groups is not valid.
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
        # A rank joins an existing group or starts the next one. The last ranks must start one while
        # there are fewer than `low`.
        has_to = low - len(found) >= len(ranks) - i
        number = draw(st.integers(len(found) if has_to else 0, min(len(found), high - 1)))
        if number == len(found):
            found.append([])
        found[number].append(rank)
    return tuple(tuple(group) for group in found)


def split_sizes(total: int, parts: int, *, min_size: int = 0) -> SearchStrategy[tuple[int, ...]]:
    """Draw split sizes: ways to divide `total` rows into `parts` parts, even ones first.

    Args:
        total: the sum of the sizes.
        parts: the number of sizes.
        min_size: the smallest size of a part; 0 allows empty parts.

    Raises:
        TypeError: if an argument is not an integer.
        ValueError: if an argument is negative, there are no parts, or too few rows for them.
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
    # False first: Hypothesis shrinks towards the even split.
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
    """Draw how many rows each rank sends to each other rank, for `all_to_all_single`.

    Item r has rank r's input split sizes: the rows that it sends to ranks 0, 1, …. Its output split
    sizes are item r of each of the items. Tables with one number everywhere come first, 1 before 0.

    Args:
        world_size: number of ranks.
        max_size: the largest number of rows that one rank sends to another.
        even: only draw tables with the same number everywhere.

    Raises:
        WorldSizeError: if world_size is not an integer above zero.
        TypeError, ValueError: if max_size is not an integer or is negative, or even is not a bool.
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
