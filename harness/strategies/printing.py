"""Make Hypothesis print tensors as expressions that can be pasted into a test.

Hypothesis uses this for falsifying examples. torch's own `repr` omits the module and the strides,
and is not valid Python for infinities or tensors without elements.
"""

from __future__ import annotations

import cmath
import math
from typing import Any

import torch
from hypothesis.vendor import pretty

#: A tensor with more elements is described by its first ones.
MOST_ELEMENTS = 256


def expression(x: torch.Tensor) -> str:
    """Return Python code for a tensor with equal values, shape, dtype, strides and requires_grad.

    A tensor with more than 256 different elements is only described by its first ones. A tensor
    that is not dense, or not on the CPU, is printed with torch's `repr`.
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
    """Return the expression of a tensor with an offset in its storage."""
    last = sum((side - 1) * step for side, step in zip(x.shape, x.stride(), strict=True))
    extent = x.storage_offset() + (last + 1 if x.numel() else 0)
    whole = x.as_strided((extent,), (1,), 0)
    return f"{_contiguous(whole)}.as_strided({_shape(x)}, {x.stride()}, {x.storage_offset()})"


def _contiguous(x: torch.Tensor) -> str:
    """Return the expression of a contiguous tensor with these values."""
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
        # `a+bj` is a sum, which loses the signs of zeros, NaN and infinities.
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
    """Register the printers with Hypothesis, for tensors and reductions inside any value."""
    # By name, so that no private module of torch has to be imported.
    pretty.for_type_by_name("torch", "Tensor", _print_tensor)
    pretty.for_type_by_name("torch._C._distributed_c10d", "RedOpType", _print_op)
