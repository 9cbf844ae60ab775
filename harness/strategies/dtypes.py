"""Strategies for dtypes, and for the reductions that are defined for them."""

from __future__ import annotations

import torch
import torch.distributed as dist
from hypothesis.strategies import SearchStrategy, sampled_from

from harness.strategies.arguments import dtype_of
from harness.strategies.palettes import COMPLEX, FLOATING, INTEGRAL

_KINDS: dict[str, tuple[torch.dtype, ...]] = {
    "floating": FLOATING,
    "integral": INTEGRAL,
    "bool": (torch.bool,),
    "complex": COMPLEX,
}


def dtypes(*kinds: str) -> SearchStrategy[torch.dtype]:
    """Draw dtypes that the backends support, float32 first.

    Args:
        kinds: some of "floating" (float32, float64, float16, bfloat16), "integral" (int64, int32,
            uint8, int8), "bool" and "complex" (complex64, complex128); by default the first two.
            int16 is missing, because neither gloo nor nccl supports it.

    Raises:
        ValueError: if a kind is not one of these.
    """
    unknown = [kind for kind in kinds if kind not in _KINDS]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is not a kind of dtype: use {', '.join(_KINDS)}")
    chosen = kinds or ("floating", "integral")
    return sampled_from([dtype for kind in chosen for dtype in _KINDS[kind]])


def reduce_ops(dtype: torch.dtype | None = None) -> SearchStrategy[dist.ReduceOp.RedOpType]:
    """Draw the reductions that gloo supports for a dtype, SUM first.

    - complex: SUM, AVG
    - floating: SUM, PRODUCT, MIN, MAX, AVG
    - integral: SUM, PRODUCT, MIN, MAX, BAND, BOR, BXOR
    - bool: PRODUCT, MIN, MAX, BAND, BOR, BXOR; gloo's SUM of bools is neither True nor False

    PREMUL_SUM is missing, because it needs a factor.

    Args:
        dtype: the dtype of the tensors; None for SUM, PRODUCT, MIN and MAX, which all floating and
            integral dtypes have.

    Raises:
        TypeError, ValueError: if it is not a dtype, or `tensors()` does not support it.
    """
    op = dist.ReduceOp
    real = [op.SUM, op.PRODUCT, op.MIN, op.MAX]
    if dtype is None:
        return sampled_from(real)
    if dtype_of(dtype).is_complex:
        return sampled_from([op.SUM, op.AVG])
    if dtype.is_floating_point:
        return sampled_from([*real, op.AVG])
    bitwise = [op.BAND, op.BOR, op.BXOR]
    # real[True:] leaves out SUM, which comes first.
    return sampled_from([*real[dtype is torch.bool :], *bitwise])
