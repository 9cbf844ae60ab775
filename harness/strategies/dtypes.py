"""Dtypes, and the reductions that have a meaning for them."""

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
    """Dtypes that backends carry, float32 first.

    Args:
        kinds: which of "floating" (float32, float64, float16, bfloat16), "integral" (int64, int32,
            uint8, int8), "bool" and "complex" (complex64, complex128); the first two if none is
            named. int16 is not among them: neither gloo nor nccl carries it.

    Raises:
        ValueError: if a kind is none of these.
    """
    unknown = [kind for kind in kinds if kind not in _KINDS]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is no kind of dtypes: these are {', '.join(_KINDS)}")
    chosen = kinds or ("floating", "integral")
    return sampled_from([dtype for kind in chosen for dtype in _KINDS[kind]])


def reduce_ops(dtype: torch.dtype | None = None) -> SearchStrategy[dist.ReduceOp.RedOpType]:
    """The reductions that are defined for a dtype and that gloo carries out, SUM first.

    SUM and AVG are for complex dtypes; SUM, PRODUCT, MIN and MAX for floating dtypes, with AVG, and
    for integral dtypes, with BAND, BOR and BXOR; all of these but SUM and AVG for bool, of which
    gloo's SUM makes what is neither True nor False. PREMUL_SUM, which needs a factor, is left out.

    Args:
        dtype: of what is reduced; None for the reductions that all floating and integral dtypes
            have, which are SUM, PRODUCT, MIN and MAX.

    Raises:
        TypeError, ValueError: if it is no dtype, or none that tensors can be drawn of.
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
    return sampled_from([*real[dtype is torch.bool :], *bitwise])
