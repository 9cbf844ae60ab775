"""Façade of the Hypothesis strategies for distributed tests: `docs/strategies.md`."""

from harness.cases.strategies.dtypes import dtypes, reduce_ops
from harness.cases.strategies.shapes import shapes
from harness.cases.strategies.tensors import per_rank, per_rank_tensors, tensors
from harness.cases.strategies.worlds import (
    group_sizes,
    groups,
    partitions,
    roots,
    split_sizes,
    split_tables,
)

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
