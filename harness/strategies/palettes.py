"""The numbers that tensors are filled with: 256 for each dtype, the simplest first.

A tensor is drawn as bytes, one for each element. For Hypothesis that is one choice, however many
elements there are, and it shrinks the bytes one by one. So a smaller byte must mean a simpler
number.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch

FLOATING = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
INTEGRAL = (torch.int64, torch.int32, torch.uint8, torch.int8)
COMPLEX = (torch.complex64, torch.complex128)
DRAWABLE = frozenset({*FLOATING, *INTEGRAL, *COMPLEX, torch.int16, torch.bool})

ENTRIES = 256

# Sums of a thousand multiples of 1/4 up to 8 are exact in float32, and of four in bfloat16, whose
# 8 bits hold every multiple of 1/4 up to 64. So what ranks add up does not depend on the order.
_LARGEST = 8
_QUARTERS = 4
_LARGEST_PART = 3

# How many of the 256 entries are for extremes, NaN and infinities, if requested.
_SPECIAL_ENTRIES = 32


class Extras(NamedTuple):
    """Numbers to draw in addition to the simple ones.

    Attributes:
        extremes: the dtype's largest and smallest number; for floating dtypes also the smallest
            positive ones and -0.0.
        nan: not a number.
        infinity: both infinities.
    """

    extremes: bool = False
    nan: bool = False
    infinity: bool = False


@cache
def palette(dtype: torch.dtype, extras: Extras) -> torch.Tensor:
    """Return the number for each byte value, as a tensor of 256 elements; byte 0 is zero."""
    simple, special = _simple(dtype), _special(dtype, extras)
    for_special = _SPECIAL_ENTRIES if special else 0
    numbers = [
        *_spread(simple, ENTRIES - for_special),
        *(_spread(special, for_special) if special else ()),
    ]
    return torch.tensor(numbers, dtype=dtype)


def _spread(numbers: list[complex], entries: int) -> list[complex]:
    """Repeat the numbers evenly, in their order, to fill the entries."""
    return [numbers[i * len(numbers) // entries] for i in range(entries)]


def _simple(dtype: torch.dtype) -> list[complex]:
    """Return the dtype's simple numbers, sorted: integers first, then positive, then small ones."""
    if dtype is torch.bool:
        return [False, True]
    if dtype.is_complex:
        parts = range(-_LARGEST_PART, _LARGEST_PART + 1)
        numbers = [complex(re, im) for re in parts for im in parts]
        return sorted(numbers, key=lambda z: (abs(z.real) + abs(z.imag), z.real < 0, z.imag != 0))
    least = 0 if not dtype.is_signed else -_LARGEST
    if not dtype.is_floating_point:
        return [*sorted(range(least, _LARGEST + 1), key=_simplicity)]
    quarters = range(least * _QUARTERS, _LARGEST * _QUARTERS + 1)
    return [*sorted((q / _QUARTERS for q in quarters), key=_simplicity)]


def _simplicity(x: float) -> tuple[bool, bool, float]:
    return (x != int(x), x < 0, abs(x))


def _special(dtype: torch.dtype, extras: Extras) -> list[complex]:
    numbers: list[complex] = []
    if extras.extremes:
        numbers += _extremes(dtype)
    if extras.infinity:
        numbers += [float("inf"), float("-inf")]
    if extras.nan:
        numbers += [float("nan")]
    return numbers


def _extremes(dtype: torch.dtype) -> list[complex]:
    if dtype is torch.bool:
        return []
    if dtype.is_floating_point or dtype.is_complex:
        info = torch.finfo(dtype)
        return [-0.0, info.tiny, info.smallest_normal / 2, info.max, info.min]
    return [torch.iinfo(dtype).max, torch.iinfo(dtype).min]
