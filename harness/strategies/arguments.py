"""Check the arguments of strategies when a strategy is created.

Then the error points to the line with the wrong argument. Hypothesis itself only checks at the
first draw, inside the test.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from hypothesis.strategies import SearchStrategy, just

from harness.model.spec import check_world_size
from harness.strategies.palettes import DRAWABLE

T = TypeVar("T")


def whole_number(value: object, name: str, least: int = 0) -> int:
    """Return the value, which must be an integer of at least `least`.

    Raises:
        TypeError: if it is not an integer.
        ValueError: if it is too small.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is {value!r}: it must be an integer, not {type(value).__name__}")
    if value < least:
        raise ValueError(f"{name} is {value}: it must be at least {least}")
    return value


def span(
    least: object, most: object, least_name: str, most_name: str, lowest: int = 0
) -> tuple[int, int]:
    """Return the ends of a range of integers; the first must not be above the second.

    Raises:
        TypeError: if an end is not an integer.
        ValueError: if the first end is above the second, or below `lowest`.
    """
    low = whole_number(least, least_name, lowest)
    high = whole_number(most, most_name, 0)
    if high < low:
        raise ValueError(f"{most_name} is {high}, below {least_name}, which is {low}")
    return low, high


def ranks_of(world: object, owner: str) -> tuple[int, ...]:
    """Return the ranks of an argument that is a world size or a list of ranks.

    Raises:
        TypeError: if it is neither.
        WorldSizeError: if the world size is not above zero.
        ValueError: if the list is empty, or has a rank twice or a negative one.
    """
    if not isinstance(world, Sequence) or isinstance(world, str):
        return tuple(range(check_world_size(world, owner)))
    ranks = tuple(whole_number(rank, f"a rank of {owner}") for rank in world)
    if not ranks or len(set(ranks)) < len(ranks):
        raise ValueError(f"{owner} was given the ranks {ranks}: it needs one or more, each once")
    return ranks


def dtype_of(value: object, name: str = "dtype") -> torch.dtype:
    """Return the value, which must be a dtype that `tensors()` supports.

    Raises:
        TypeError: if it is not a dtype.
        ValueError: if `tensors()` does not support it; quantized dtypes are an example.
    """
    if not isinstance(value, torch.dtype):
        raise TypeError(
            f"{name} is {value!r}: it must be a torch.dtype, such as torch.float32, "
            "or a strategy for them"
        )
    if value not in DRAWABLE:
        known = ", ".join(sorted(map(str, DRAWABLE)))
        raise ValueError(f"{name} is {value}: tensors can be drawn of {known}")
    return value


def flag(value: object, name: str) -> bool:
    """Return the value, which must be a bool.

    Raises:
        TypeError: if it is not a bool.
    """
    if not isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}: it must be True or False")
    return value


def as_strategy(value: Any) -> SearchStrategy[Any]:
    """Return a strategy unchanged; otherwise a strategy that always draws the value."""
    return value if isinstance(value, SearchStrategy) else just(value)
