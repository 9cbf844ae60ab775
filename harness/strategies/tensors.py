"""Strategies for tensors: a single one, or one for each rank."""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple, TypeVar

import torch
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from harness.model.spec import check_world_size
from harness.strategies.arguments import (
    as_strategy,
    dtype_of,
    flag,
    whole_number,
)
from harness.strategies.dtypes import dtypes
from harness.strategies.filling import (
    CONTIGUOUS_LAYOUTS,
    LAYOUTS,
    Shape,
    bytes_needed,
    filled,
    laid_out,
    tiled,
)
from harness.strategies.palettes import Extras, palette
from harness.strategies.shapes import shapes

T = TypeVar("T")

# How many elements to draw from `elements`; a larger tensor repeats them.
_DRAWN_ELEMENTS = 64


class _Recipe(NamedTuple):
    """What all tensors of a draw have in common; most fields are arguments of `tensors()`."""

    dtype: SearchStrategy[torch.dtype]
    shape: SearchStrategy[Shape]
    fixed_shape: Shape | None
    elements: SearchStrategy[Any] | None
    layouts: SearchStrategy[int]
    requires_grad: SearchStrategy[bool]
    must_require_grad: bool
    extras: Extras

    def __repr__(self) -> str:
        """Show the user's arguments, since Hypothesis prints a strategy with its arguments."""
        parts = [f"dtype={self.dtype}", f"shape={self.shape}"]
        if self.elements is not None:
            parts.append(f"elements={self.elements}")
        return ", ".join(parts)


class _Form(NamedTuple):
    """The dtype, shape and requires_grad of one draw."""

    dtype: torch.dtype
    shape: Shape
    requires_grad: bool


def tensors(
    dtype: torch.dtype | SearchStrategy[torch.dtype] | None = None,
    shape: int | Shape | SearchStrategy[Shape] | None = None,
    *,
    elements: SearchStrategy[Any] | None = None,
    contiguous: bool = True,
    requires_grad: bool | SearchStrategy[bool] = False,
    extremes: bool = False,
    allow_nan: bool = False,
    allow_infinity: bool = False,
) -> SearchStrategy[torch.Tensor]:
    """Draw dense tensors on the CPU.

    Their numbers are small: integers from -8 to 8, multiples of 1/4 from -8 to 8, complex numbers
    with parts from -3 to 3. So sums over a few ranks are exact in every dtype, and equal in every
    order. They shrink towards a contiguous tensor of one dimension, one element and value zero.

    The first 32 elements are drawn one by one. Further elements are random numbers from a drawn
    seed, or all zero. So a tensor of a million elements needs no more choices than one of 33.

    Args:
        dtype: a dtype or a strategy for dtypes; by default `dtypes()`, or `dtypes("floating")` with
            `requires_grad=True`.
        shape: a shape, a number of elements, or a strategy for shapes; by default `shapes()`.
        elements: a strategy for the elements, instead of the numbers above. At most 64 are drawn;
            larger tensors repeat them.
        contiguous: False for tensors that may have gaps between their elements, or their dimensions
            in reversed order in memory. Contiguous tensors may have an offset in their storage too,
            like views of a flat buffer.
        requires_grad: whether they require grad; if a strategy, only those with a floating or
            complex dtype do.
        extremes: also draw the dtype's largest and smallest number; for floating and complex dtypes
            also -0.0 and the smallest positive numbers.
        allow_nan, allow_infinity: also draw these, for dtypes that have them.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if a shape has a negative side, the dtype is not supported or cannot require
            grad, or `elements` is combined with extremes, NaN or infinity.
    """
    recipe = _recipe(
        dtype,
        shape,
        elements=elements,
        contiguous=contiguous,
        requires_grad=requires_grad,
        extremes=extremes,
        allow_nan=allow_nan,
        allow_infinity=allow_infinity,
    )
    return _tensors(recipe)


def per_rank(strategy: SearchStrategy[T], world_size: int) -> SearchStrategy[tuple[T, ...]]:
    """Draw a tuple with one value for each rank; they shrink together.

    Args:
        strategy: draws the value of one rank; ranks get independent values.
        world_size: number of ranks; item r is rank r's value.

    Raises:
        TypeError: if the first argument is not a strategy.
        WorldSizeError: if world_size is not an integer above zero.
    """
    if not isinstance(strategy, SearchStrategy):
        raise TypeError(f"per_rank() was given {strategy!r}: it needs a strategy")
    return st.tuples(*[strategy] * check_world_size(world_size, "per_rank()"))


def per_rank_tensors(
    world_size: int,
    dtype: torch.dtype | SearchStrategy[torch.dtype] | None = None,
    shape: int | Shape | SearchStrategy[Shape] | None = None,
    *,
    same_strides: bool = True,
    elements: SearchStrategy[Any] | None = None,
    contiguous: bool = True,
    requires_grad: bool | SearchStrategy[bool] = False,
    extremes: bool = False,
    allow_nan: bool = False,
    allow_infinity: bool = False,
) -> SearchStrategy[tuple[torch.Tensor, ...]]:
    """Draw a tuple with one tensor for each rank, all with the same dtype and shape.

    They are one value, so a shape shrinks on all ranks together. For independent tensors, use
    `per_rank(tensors(...), world_size)`.

    Args:
        world_size: number of ranks; item r is rank r's tensor.
        same_strides: whether all ranks' tensors have the same layout in memory.

    The other arguments are those of `tensors()`.

    Raises:
        WorldSizeError: if world_size is not an integer above zero.
        TypeError, ValueError: for the same reasons as `tensors()`.
    """
    size = check_world_size(world_size, "per_rank_tensors()")
    flag(same_strides, "same_strides")
    recipe = _recipe(
        dtype,
        shape,
        elements=elements,
        contiguous=contiguous,
        requires_grad=requires_grad,
        extremes=extremes,
        allow_nan=allow_nan,
        allow_infinity=allow_infinity,
    )
    return _per_rank_tensors(size, recipe, same_strides)


@st.composite
def _tensors(draw: DrawFn, recipe: _Recipe) -> torch.Tensor:
    form = _form(draw, recipe)
    return _tensor(draw, recipe, form, draw(recipe.layouts))


@st.composite
def _per_rank_tensors(
    draw: DrawFn, world_size: int, recipe: _Recipe, same_strides: bool
) -> tuple[torch.Tensor, ...]:
    form = _form(draw, recipe)
    # One draw for all ranks: gloo's collectives of tensors with differing strides give wrong
    # results (torch 2.13), so that is not the default.
    count = 1 if same_strides else world_size
    layouts = [draw(recipe.layouts) for _ in range(count)] * (world_size // count)
    return tuple(_tensor(draw, recipe, form, layout) for layout in layouts)


def _form(draw: DrawFn, recipe: _Recipe) -> _Form:
    dtype = dtype_of(draw(recipe.dtype), "a dtype that was drawn")
    shape = _shape_of(draw(recipe.shape), "a shape that was drawn")
    differentiable = dtype.is_floating_point or dtype.is_complex
    if recipe.must_require_grad and not differentiable:
        raise ValueError(_cannot_require_grad(dtype))
    return _Form(dtype, shape, draw(recipe.requires_grad) and differentiable)


def _tensor(draw: DrawFn, recipe: _Recipe, form: _Form, layout: int) -> torch.Tensor:
    if recipe.elements is None:
        size = bytes_needed(recipe.fixed_shape)
        choice = draw(st.binary(min_size=size, max_size=size))
        values = filled(form.shape, palette(form.dtype, _had_by(form.dtype, recipe.extras)), choice)
    else:
        count = min(prod(form.shape), _DRAWN_ELEMENTS)
        drawn = draw(st.lists(recipe.elements, min_size=count, max_size=count))
        values = tiled(form.shape, drawn, form.dtype)
    return laid_out(values, layout).requires_grad_(form.requires_grad)


def _had_by(dtype: torch.dtype, extras: Extras) -> Extras:
    """Return the extras that exist for a dtype."""
    if dtype.is_floating_point or dtype.is_complex:
        return extras
    return Extras(extremes=extras.extremes)


def _recipe(
    dtype: torch.dtype | SearchStrategy[torch.dtype] | None,
    shape: int | Shape | SearchStrategy[Shape] | None,
    *,
    elements: SearchStrategy[Any] | None,
    contiguous: bool,
    requires_grad: bool | SearchStrategy[bool],
    extremes: bool,
    allow_nan: bool,
    allow_infinity: bool,
) -> _Recipe:
    """Check the arguments of `tensors()`, and return them as a recipe."""
    if not isinstance(requires_grad, SearchStrategy):
        flag(requires_grad, "requires_grad")
    if elements is not None and not isinstance(elements, SearchStrategy):
        raise TypeError(f"elements is {elements!r}: it must be a strategy for numbers")
    extras = Extras(
        flag(extremes, "extremes"),
        flag(allow_nan, "allow_nan"),
        flag(allow_infinity, "allow_infinity"),
    )
    if elements is not None and any(extras):
        raise ValueError(
            "extremes, allow_nan and allow_infinity are about the harness's own numbers: "
            "with elements, that strategy has to draw them"
        )
    if dtype is None:
        dtype = dtypes("floating") if requires_grad is True else dtypes()
    elif not isinstance(dtype, SearchStrategy):
        dtype_of(dtype)
        if requires_grad is True and not (dtype.is_floating_point or dtype.is_complex):
            raise ValueError(_cannot_require_grad(dtype))
    if shape is None:
        shape = shapes()
    fixed = None if isinstance(shape, SearchStrategy) else _shape_of(shape, "shape")
    # The contiguous layouts come first in LAYOUTS, so a prefix of it selects them.
    layouts = CONTIGUOUS_LAYOUTS if flag(contiguous, "contiguous") else len(LAYOUTS)
    return _Recipe(
        dtype=as_strategy(dtype),
        shape=as_strategy(shape if fixed is None else fixed),
        fixed_shape=fixed,
        elements=elements,
        layouts=st.integers(0, layouts - 1),
        requires_grad=as_strategy(requires_grad),
        must_require_grad=requires_grad is True,
        extras=extras,
    )


def _shape_of(value: object, name: str) -> Shape:
    if isinstance(value, int):
        value = (value,)
    if not isinstance(value, tuple | list):
        raise TypeError(f"{name} is {value!r}: it must be a tuple of integers, or an integer")
    return tuple(whole_number(side, f"a side of {name} {tuple(value)}") for side in value)


def _cannot_require_grad(dtype: torch.dtype) -> str:
    return f"requires_grad is True, but tensors of {dtype} cannot require grad"
