"""What gloo and torch 2.13 refuse or compute wrongly, each shown to be still so.

The property suites leave these cases out of their draws. A test that fails here says that a case
has become right: its row goes, and the draws take the case in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as dist_nn

from harness import (
    MultiProcessTestCase,
    RanksDiedError,
    TestCase,
    instantiate_parametrized_tests,
    parametrize,
    run_on_ranks,
    run_tests,
    subtest,
)
from suites.properties import accept_deprecations

OP = dist.ReduceOp
NAN = float("nan")


class Refusal(NamedTuple):
    """A call that raises on both ranks of a world of two, on what every dtype and operation named.

    Attributes:
        reason: why it does.
        variants: arguments of `call`, one call for each.
        call: from the rank and a variant; it must raise.
        error: what it raises.
        message: a pattern that the message matches.
    """

    reason: str
    variants: tuple[Any, ...]
    call: Callable[[int, Any], Any]
    error: type[Exception]
    message: str


class Defect(NamedTuple):
    """A call that returns something else than it should, on one of two ranks at least.

    Attributes:
        reason: how it comes.
        variants: arguments of `call`, one call for each.
        call: from the rank and a variant to what is found and what would be right.
    """

    reason: str
    variants: tuple[Any, ...]
    call: Callable[[int, Any], tuple[torch.Tensor, torch.Tensor]]


def gaps(x):
    """The same numbers with room between them, in which there are others."""
    return torch.stack([x, x - 100], -1)[..., 0]


def columns_first(x):
    return x.t().contiguous().t()


def six(rank):
    return torch.arange(6.0).reshape(2, 3) + 10 * rank


def ones(dtype, *shape):
    return torch.ones(shape, dtype=dtype)


def all_gather(x, shapes=((), ())):
    outputs = [torch.empty(shape, dtype=x.dtype) for shape in shapes]
    dist.all_gather(outputs, x)
    return torch.stack(outputs)


REFUSALS = {
    "dtypes_that_gloo_lacks": Refusal(
        "gloo has int8, uint8, int32, int64 and the floating dtypes down to 16 bits; messages from "
        "rank to rank are bytes to it and go through",
        (torch.int16, torch.uint16, torch.uint32, torch.float8_e4m3fn),
        lambda rank, dtype: dist.all_reduce(torch.zeros(2, dtype=dtype)),
        RuntimeError,
        "Invalid scalar type",
    ),
    "gather_of_complex_numbers": Refusal(
        "torch shows complex tensors to gloo as pairs of real numbers, in gather alone it does not",
        (torch.complex64, torch.complex128),
        lambda rank, dtype: dist.gather(
            ones(dtype, 2), [ones(dtype, 2), ones(dtype, 2)] if rank == 0 else None
        ),
        RuntimeError,
        "Invalid scalar type",
    ),
    "mean_of_integers": Refusal(
        "the sum is divided in place, and a fraction does not fit",
        (torch.int64, torch.int32, torch.int8, torch.uint8, torch.bool),
        lambda rank, dtype: dist.all_reduce(ones(dtype, 2), OP.AVG),
        RuntimeError,
        "can't be cast to the desired output type",
    ),
    "bits_of_floating_dtypes": Refusal(
        "they are defined for integral dtypes and bool",
        tuple((op, d) for op in (OP.BAND, OP.BOR, OP.BXOR) for d in (torch.float32, torch.float16)),
        lambda rank, variant: dist.all_reduce(ones(variant[1], 2), variant[0]),
        RuntimeError,
        "with non-integral dtype",
    ),
    "complex_numbers_but_for_sum_and_mean": Refusal(
        "gloo gets pairs of real numbers, of which only sum and mean are those of complex numbers",
        (OP.PRODUCT, OP.MIN, OP.MAX, OP.BAND, OP.BOR, OP.BXOR),
        lambda rank, op: dist.all_reduce(ones(torch.complex64, 2), op),
        ValueError,
        "on complex tensors",
    ),
    "premul_sum": Refusal(
        "only NCCL has it",
        (torch.float32,),
        lambda rank, dtype: dist.all_reduce(ones(dtype, 2), dist._make_nccl_premul_sum(2.0)),
        RuntimeError,
        "PREMUL_SUM with Gloo",
    ),
    "lists_of_tensors_of_different_shapes": Refusal(
        "gloo wants all tensors of a list to be alike; all_to_all_single has split sizes for it",
        ("all_gather", "all_to_all"),
        lambda rank, name: (
            all_gather(torch.ones(rank + 1), [(1,), (2,)])
            if name == "all_gather"
            else dist.all_to_all([torch.ones(1), torch.ones(2)], [torch.ones(rank + 1)] * 2)
        ),
        RuntimeError,
        "invalid tensor size",
    ),
    "all_gather_into_tensor_of_no_dimensions": Refusal(
        "the output is cut along its only dimension, and the pieces have one more than the inputs",
        (torch.float32,),
        lambda rank, dtype: dist.all_gather_into_tensor(ones(dtype, 2), ones(dtype)),
        RuntimeError,
        "invalid tensor size",
    ),
    "tensors_with_gaps_in_all_to_all_single": Refusal(
        "it cuts memory, not elements",
        (gaps, columns_first),
        lambda rank, lay_out: dist.all_to_all_single(torch.empty(2, 3), lay_out(six(rank))),
        ValueError,
        "must be contiguous",
    ),
    "messages_of_tensors_with_gaps": Refusal(
        "they are sent as the memory they take",
        (gaps, columns_first),
        lambda rank, lay_out: dist.send(lay_out(six(rank)), 1 - rank),
        RuntimeError,
        "has to be contiguous",
    ),
    "recv_of_nothing_from_any_rank": Refusal(
        "gloo checks where in the buffer to begin, and an empty one has no such place",
        (torch.float32,),
        lambda rank, dtype: dist.recv(torch.empty(0, dtype=dtype)),
        RuntimeError,
        "offset < this->size",
    ),
    "backward_of_all_gather_base": Refusal(
        "it knows NCCL's reduce_scatter only",
        (torch.float64,),
        lambda rank, dtype: (
            dist_nn._all_gather_base(ones(dtype, 2), ones(dtype, 1).requires_grad_())
            .sum()
            .backward()
        ),
        RuntimeError,
        "Backend not supported",
    ),
}


def reduced_in_place(rank, lay_out):
    x = lay_out(six(rank))
    dist.all_reduce(x)
    return x, six(0) + six(1)


def reduced_with_other_strides(rank, lay_out):
    x = six(rank) if rank == 0 else lay_out(six(rank))
    dist.all_reduce(x)
    return x, six(0) + six(1)


def broadcast_to_other_strides(rank, lay_out):
    x = six(rank) if rank == 0 else lay_out(six(rank))
    dist.broadcast(x, 0)
    return x, six(0)


def scattered_from(rank, lay_out):
    found = torch.empty(2, 3)
    dist.scatter(found, [lay_out(six(0)), lay_out(six(1))] if rank == 0 else None)
    return found, six(rank)


def scattered_into(rank, lay_out):
    found = lay_out(torch.zeros(2, 3))
    dist.scatter(found, [six(0), six(1)] if rank == 0 else None)
    return found, six(rank)


def reduce_scattered_into(rank, lay_out):
    found = lay_out(torch.zeros(2, 3))
    dist.reduce_scatter(found, [six(rank), six(rank)])
    return found, six(0) + six(1)


def reduced_nan(rank, op):
    x = torch.tensor([1.0, NAN] if rank == 0 else [NAN, 1.0])
    dist.all_reduce(x, op)
    return x, torch.tensor([NAN, NAN])


def counted_truths(rank, dtype):
    x = torch.ones(2, dtype=dtype)
    dist.all_reduce(x)
    return x.view(torch.uint8), torch.ones(2, dtype=dtype).view(torch.uint8)


def gradient_of_reduction(rank, op):
    """The loss is the sum of both ranks' outputs, of 2 and 3; the gradient that of the model."""
    ranks = [torch.tensor([2.0], requires_grad=True), torch.tensor([3.0], requires_grad=True)]
    combine = {OP.PRODUCT: torch.mul, OP.MIN: torch.minimum, OP.MAX: torch.maximum}[op]
    (2 * combine(*ranks)).sum().backward()
    x = ranks[rank].detach().clone().requires_grad_()
    dist_nn.all_reduce(x, op).sum().backward()
    return x.grad, ranks[rank].grad


DEFECTS = {
    "all_reduce_of_tensors_with_gaps": Defect(
        "gloo reduces as many elements of memory as the tensor has, the gaps among them",
        (gaps,),
        reduced_in_place,
    ),
    "all_reduce_of_different_strides": Defect(
        "gloo pairs elements by their places in memory, not by their indices",
        (columns_first, gaps),
        reduced_with_other_strides,
    ),
    "broadcast_to_different_strides": Defect(
        "the same", (columns_first, gaps), broadcast_to_other_strides
    ),
    "scatter_from_tensors_that_are_not_contiguous": Defect(
        "the root sends memory, in its order", (columns_first, gaps), scattered_from
    ),
    "scatter_into_a_tensor_that_is_not_contiguous": Defect(
        "memory is filled in its order", (columns_first, gaps), scattered_into
    ),
    "reduce_scatter_into_a_tensor_that_is_not_contiguous": Defect(
        "the same", (columns_first, gaps), reduce_scattered_into
    ),
    "least_and_largest_of_nan": Defect(
        "gloo compares, and no comparison with NaN holds: whose NaN it is decides whether it stays",
        (OP.MIN, OP.MAX),
        reduced_nan,
    ),
    "sum_of_bool": Defect(
        "gloo adds bytes: two True are 2, which is no bool", (torch.bool,), counted_truths
    ),
    "gradient_of_all_reduce_but_for_sum_and_mean": Defect(
        "backward reduces the gradients by the same operation, right for SUM and AVG alone",
        (OP.PRODUCT, OP.MIN, OP.MAX),
        gradient_of_reduction,
    ),
}


def rows(table):
    return [subtest(row, name=name) for name, row in table.items()]


@instantiate_parametrized_tests
class TestLimits(MultiProcessTestCase):
    world_size = 2
    isolation = "group"

    def perRankSetUp(self):
        accept_deprecations(self)
        self.init_process_group("gloo")

    @parametrize("row", rows(REFUSALS))
    def test_refused(self, row):
        for variant in row.variants:
            with self.assertRaisesRegex(row.error, row.message, msg=str(variant)):
                row.call(self.rank, variant)

    @parametrize("row", rows(DEFECTS))
    def test_wrong(self, row):
        for variant in row.variants:
            found, right = row.call(self.rank, variant)
            wrong = torch.tensor([not torch.equal(found.nan_to_num(7), right.nan_to_num(7))])
            either = [torch.empty_like(wrong) for _ in range(2)]
            dist.all_gather(either, wrong)
            self.assertTrue(any(either), f"{variant} is right on both ranks: {found}")


class TestCrashes(TestCase):
    def test_reduce_scatter_tensor_into_no_dimensions(self):
        """gloo looks for the first dimension of an output that has none."""
        accept_deprecations(self)

        def crash():
            dist.reduce_scatter_tensor(torch.tensor(0.0), torch.ones(2))

        with self.assertRaisesRegex(RanksDiedError, "SIGSEGV"):
            run_on_ranks(crash, world_size=2)


if __name__ == "__main__":
    run_tests()
