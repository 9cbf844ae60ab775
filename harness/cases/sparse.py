"""Inputs and expected results for tests of reductions of sparse tensors."""

from __future__ import annotations

from torch import Tensor, ones, sparse_coo_tensor, stack, zeros

# Sparse and dense dimensions, the same as in PyTorch: up to three sparse ones, then one sparse and
# up to three dense ones.
_KINDS = ((1, 0), (2, 0), (3, 0), (1, 1), (1, 2), (1, 3))

Case = tuple[list[Tensor], list[Tensor]]


def simple_sparse_reduce_tests(rank: int, world_size: int, num_inputs: int = 1) -> list[Case]:
    """Return inputs and results of a sum over ranks, for several kinds of sparse tensors.

    Input number i of all n has i + 1 ones, at [0], [1], … [i] of its first dimension and at 0 of
    its further sparse ones, so that any two of them overlap.

    Args:
        rank: whose inputs.
        world_size: number of ranks.
        num_inputs: inputs of each rank.

    Returns:
        for each kind of tensor, this rank's inputs, and for each of them the sum over the inputs of
        all ranks: float32, of shape [n] for each sparse and [2] for each dense dimension, where
        n = world_size * num_inputs.
    """
    total = world_size * num_inputs
    mine = range(rank * num_inputs, (rank + 1) * num_inputs)
    cases = []
    for kind in _KINDS:
        everything = [_input(number, total, *kind) for number in range(total)]
        expected = sum(everything[1:], start=everything[0])
        cases.append(([everything[number] for number in mine], [expected] * num_inputs))
    return cases


def _input(number: int, total: int, sparse_dims: int, dense_dims: int) -> Tensor:
    """Return input `number` of `total`, with this many sparse and dense dimensions."""
    count = number + 1
    first = ones(count).cumsum(0) - 1
    indices = stack([first, *[zeros(count)] * (sparse_dims - 1)])
    shape = [total] * sparse_dims + [2] * dense_dims
    values = ones([count] + [2] * dense_dims)
    return sparse_coo_tensor(indices, values, shape, check_invariants=True)
