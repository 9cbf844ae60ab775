"""Hypothesis strategies for distributed tests: `docs/strategies.md`."""

from harness.strategies.require_hypothesis import require_hypothesis

require_hypothesis()

from harness.strategies import printing  # noqa: E402
from harness.strategies.dtypes import dtypes, reduce_ops  # noqa: E402
from harness.strategies.shapes import shapes  # noqa: E402
from harness.strategies.tensors import per_rank, per_rank_tensors, tensors  # noqa: E402
from harness.strategies.worlds import (  # noqa: E402
    group_sizes,
    groups,
    partitions,
    roots,
    split_sizes,
    split_tables,
)

printing.register()

__all__ = [
    "dtypes",
    "group_sizes",
    "groups",
    "partitions",
    "per_rank",
    "per_rank_tensors",
    "reduce_ops",
    "roots",
    "shapes",
    "split_sizes",
    "split_tables",
    "tensors",
]
