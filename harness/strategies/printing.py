"""How Hypothesis prints what the strategies draw: as an expression that can be pasted into a test.

Falsifying examples and reproducers are made of it. torch's own `repr` leaves out the module and the
strides, and cannot be read back where there are infinities or no elements.
"""

from __future__ import annotations

import cmath
import math
from typing import Any

import torch
from hypothesis.vendor import pretty

#: A tensor with more elements than that is told by its beginning.
MOST_ELEMENTS = 256


def expression(x: torch.Tensor) -> str:
    """Python that makes a tensor with the same values, shape, dtype, strides and requires_grad.

    A tensor of more than 256 elements that are not all the same is only described, by its first
    elements. What is no dense tensor on the CPU is printed as torch prints it.
    """
    if type(x) is not torch.Tensor or x.layout is not torch.strided or x.device.type != "cpu":
        return repr(x)
    values = x.detach()
    usual = torch.empty(x.shape, device="meta").stride()
    if values.storage_offset():
        text = _at_offset(values)
    elif x.stride() == usual:
        text = _contiguous(values)
    else:
        empty = f"torch.empty_strided({_shape(x)}, {x.stride()}, dtype={x.dtype})"
        text = f"{empty}.copy_({_contiguous(values)})"
    return f"{text}.requires_grad_()" if x.requires_grad else text


def _at_offset(x: torch.Tensor) -> str:
    """The expression of a tensor that does not start where its storage does."""
    last = sum((side - 1) * step for side, step in zip(x.shape, x.stride(), strict=True))
    extent = x.storage_offset() + (last + 1 if x.numel() else 0)
    whole = x.as_strided((extent,), (1,), 0)
    return f"{_contiguous(whole)}.as_strided({_shape(x)}, {x.stride()}, {x.storage_offset()})"


def _contiguous(x: torch.Tensor) -> str:
    """The expression of a contiguous tensor with these values."""
    if x.numel() == 0:
        return f"torch.empty({_shape(x)}, dtype={x.dtype})"
    flat = x.reshape(-1)
    if x.numel() > MOST_ELEMENTS:
        first = flat[0].item()
        if bool((flat == first).all()):
            return f"torch.full({_shape(x)}, {_number(first)}, dtype={x.dtype})"
        beginning = ", ".join(map(_number, flat[:8].tolist()))
        return f"<tensor {_shape(x)} of {x.dtype}, that begins with {beginning}>"
    return f"torch.tensor({_nested(x.tolist())}, dtype={x.dtype})"


def _shape(x: torch.Tensor) -> tuple[int, ...]:
    return tuple(x.shape)


def _nested(values: Any) -> str:
    if isinstance(values, list):
        return f"[{', '.join(map(_nested, values))}]"
    return _number(values)


def _number(value: complex) -> str:
    if isinstance(value, complex):
        if cmath.isfinite(value) and math.copysign(1, value.imag) > 0 <= value.real:
            return repr(value)
        # Signs of zeros, NaN and infinities get lost in a sum of two parts.
        return f"complex({_number(value.real)}, {_number(value.imag)})"
    if math.isnan(value):
        return "torch.nan"
    if math.isinf(value):
        return "torch.inf" if value > 0 else "-torch.inf"
    return repr(value)


def _print_tensor(x: torch.Tensor, printer: pretty.RepresentationPrinter, _: bool) -> None:
    printer.text(expression(x))


def _print_op(op: Any, printer: pretty.RepresentationPrinter, _: bool) -> None:
    printer.text(f"torch.distributed.ReduceOp.{op.name}")


def register() -> None:
    """Have Hypothesis print tensors and reductions so, wherever they are in a value."""
    pretty.for_type_by_name("torch", "Tensor", _print_tensor)
    pretty.for_type_by_name("torch._C._distributed_c10d", "RedOpType", _print_op)
