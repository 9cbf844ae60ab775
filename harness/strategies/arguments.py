"""What strategies are given, checked when they are made: a bad argument is named where it stands.

Hypothesis would say it at the first draw, in a test that has long been set up.
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
    """The value, which has to be an integer of at least `least`.

    Raises:
        TypeError: if it is no integer.
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
    """The ends of a range of integers, of which the first must not be above the second.

    Raises:
        TypeError: if an end is no integer.
        ValueError: if they are the wrong way round, or the first is below `lowest`.
    """
    low = whole_number(least, least_name, lowest)
    high = whole_number(most, most_name, 0)
    if high < low:
        raise ValueError(f"{most_name} is {high}, below {least_name}, which is {low}")
    return low, high


def ranks_of(world: object, owner: str) -> tuple[int, ...]:
    """The ranks that an argument names: those of a world of that size, or those it lists.

    Raises:
        TypeError: if it is neither.
        WorldSizeError: if it is not above zero.
        ValueError: if it lists none, one twice, or one below zero.
    """
    if not isinstance(world, Sequence) or isinstance(world, str):
        return tuple(range(check_world_size(world, owner)))
    ranks = tuple(whole_number(rank, f"a rank of {owner}") for rank in world)
    if not ranks or len(set(ranks)) < len(ranks):
        raise ValueError(f"{owner} was given the ranks {ranks}: it needs one or more, each once")
    return ranks


def dtype_of(value: object, name: str = "dtype") -> torch.dtype:
    """The value, which has to be a dtype that tensors can be drawn of.

    Raises:
        TypeError: if it is no dtype.
        ValueError: if it is one of those that tensors are not drawn of, such as the quantized ones.
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
    """The value, which has to be a bool.

    Raises:
        TypeError: if it is none.
    """
    if not isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}: it must be True or False")
    return value


def as_strategy(value: Any) -> SearchStrategy[Any]:
    """A strategy as it is; anything else as the one value to draw."""
    return value if isinstance(value, SearchStrategy) else just(value)
