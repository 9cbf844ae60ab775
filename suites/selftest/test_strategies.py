"""Strategies: what they draw, what it shrinks to, how it is printed, and what they refuse."""

from __future__ import annotations

import math
import pickle
import unittest

import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.vendor.pretty import pretty

from harness import TestCase, strategies
from harness.strategies.filling import HEAD, SEED_BYTES, bytes_needed
from harness.strategies.printing import MOST_ELEMENTS, expression
from suites.selftest.draws import all_drawn, simplest

EVERY_KIND = strategies.dtypes("floating", "integral", "bool", "complex")

ANY_TENSOR = strategies.tensors(
    EVERY_KIND,
    contiguous=False,
    requires_grad=st.booleans(),
    extremes=True,
    allow_nan=True,
    allow_infinity=True,
)
MANY = settings(max_examples=200, database=None)
SUM = dist.ReduceOp.SUM


class TestTensors(TestCase):
    def test_every_kind_of_shape_and_place_comes_up(self):
        drawn = all_drawn(strategies.tensors(contiguous=False))
        self.assertEqual({x.dim() for x in drawn}, {0, 1, 2, 3})
        self.assertTrue(any(x.numel() == 0 for x in drawn))
        self.assertTrue(any(x.storage_offset() for x in drawn))
        self.assertTrue(any(not x.is_contiguous() for x in drawn))
        usual = {*strategies_of_kind("floating"), *strategies_of_kind("integral")}
        self.assertEqual({x.dtype for x in drawn}, usual)
        self.assertFalse(any(x.requires_grad for x in drawn))

    def test_contiguous_unless_told_otherwise(self):
        drawn = all_drawn(strategies.tensors())
        self.assertTrue(all(x.is_contiguous() for x in drawn))
        self.assertTrue(any(x.storage_offset() for x in drawn))

    def test_as_asked_for(self):
        for x in all_drawn(strategies.tensors(torch.int8, (2, 3)), 20):
            self.assertEqual((x.dtype, x.shape), (torch.int8, (2, 3)))
        for x in all_drawn(strategies.tensors(torch.float64, 5, requires_grad=True), 20):
            self.assertEqual((x.shape, x.requires_grad, x.is_leaf), ((5,), True, True))

    def test_numbers_that_add_up_exactly(self):
        for dtype in strategies_of_kind("floating"):
            for xs in all_drawn(strategies.per_rank_tensors(4, dtype, 16), 50):
                wanted = sum(x.double() for x in xs)
                self.assertEqual(sum(xs).double(), wanted, rtol=0, atol=0)
                self.assertEqual(sum(reversed(xs)).double(), wanted, rtol=0, atol=0)

    def test_special_numbers_on_request_alone(self):
        for dtype in (torch.float32, torch.bfloat16, torch.complex64):
            plain = torch.cat(all_drawn(strategies.tensors(dtype, 16)))
            self.assertTrue(plain.isfinite().all())
            asked = strategies.tensors(dtype, 16, allow_nan=True, allow_infinity=True)
            special = torch.cat(all_drawn(asked))
            self.assertTrue(special.isnan().any())
            self.assertTrue(special.isinf().any())
        wide = torch.cat(all_drawn(strategies.tensors(torch.int8, 16, extremes=True)))
        self.assertEqual((wide.min().item(), wide.max().item()), (-128, 127))
        wide = torch.cat(all_drawn(strategies.tensors(torch.float16, 16, extremes=True)))
        self.assertEqual(wide.max().item(), torch.finfo(torch.float16).max)
        self.assertTrue(((wide > 0) & (wide < torch.finfo(torch.float16).smallest_normal)).any())

    def test_elements_of_a_strategy(self):
        drawn = all_drawn(strategies.tensors(torch.int64, 100, elements=st.integers(10, 12)), 20)
        for x in drawn:
            self.assertTrue(((x >= 10) & (x <= 12)).all())
            self.assertEqual(x[64:], x[:36])

    def test_as_many_choices_for_a_million_elements_as_for_33(self):
        self.assertEqual(bytes_needed((1000, 1000)), HEAD + SEED_BYTES)
        self.assertEqual(bytes_needed((4,)), 4)
        (x, y) = all_drawn(strategies.tensors(torch.float32, (1000, 1000)), 2)
        self.assertGreater(x.unique().numel() + y.unique().numel(), 2)

    def test_one_dtype_and_shape_for_all_ranks(self):
        drawn = all_drawn(strategies.per_rank_tensors(3, contiguous=False))
        for values in drawn:
            self.assertEqual(len(values), 3)
            self.assertEqual(len({(x.dtype, x.shape, x.stride()) for x in values}), 1)
        self.assertTrue(any(not torch.equal(x, y) for x, y, _ in drawn))
        drawn = all_drawn(strategies.per_rank_tensors(3, contiguous=False, same_strides=False))
        self.assertTrue(any(len({x.stride() for x in values}) > 1 for values in drawn))
        self.assertEqual(len({(x.dtype, x.shape) for x in drawn[-1]}), 1)

    def test_one_independent_value_for_each_rank(self):
        drawn = all_drawn(strategies.per_rank(strategies.tensors(), 2))
        self.assertTrue(any(x.shape != y.shape for x, y in drawn))


def strategies_of_kind(kind):
    return set(all_drawn(strategies.dtypes(kind), 50))


SIMPLEST = {
    "any": (
        ANY_TENSOR,
        lambda x: True,
        "torch.tensor([0.0], dtype=torch.float32)",
    ),
    "three elements": (
        ANY_TENSOR,
        lambda x: x.numel() >= 3,
        "torch.tensor([0.0, 0.0, 0.0], dtype=torch.float32)",
    ),
    "a dtype": (
        ANY_TENSOR,
        lambda x: x.dtype is torch.int8 and x.numel() >= 2,
        "torch.tensor([0, 0], dtype=torch.int8)",
    ),
    "a number": (
        strategies.tensors(torch.int32),
        lambda x: bool(x.sum() > 5),
        "torch.tensor([6], dtype=torch.int32)",
    ),
    "a number somewhere in many": (
        strategies.tensors(torch.float32, strategies.shapes(max_side=50, max_elements=2500)),
        lambda x: x.numel() >= 5 and bool((x != 0).any()),
        "torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0], dtype=torch.float32)",
    ),
    "the largest": (
        strategies.tensors(torch.int8, extremes=True),
        lambda x: bool((x == 127).any()),
        "torch.tensor([127], dtype=torch.int8)",
    ),
    "NaN": (
        strategies.tensors(torch.float32, allow_nan=True),
        lambda x: bool(x.isnan().any()),
        "torch.tensor([torch.nan], dtype=torch.float32)",
    ),
    "no elements": (
        ANY_TENSOR,
        lambda x: x.numel() == 0,
        "torch.empty((0,), dtype=torch.float32)",
    ),
    "no dimensions": (
        ANY_TENSOR,
        lambda x: x.dim() == 0,
        "torch.tensor(0.0, dtype=torch.float32)",
    ),
    "not contiguous": (
        strategies.tensors(contiguous=False),
        lambda x: not x.is_contiguous(),
        "torch.empty_strided((2,), (2,), dtype=torch.float32)"
        ".copy_(torch.tensor([0.0, 0.0], dtype=torch.float32))",
    ),
    "one rank's number, from three elements on": (
        strategies.per_rank_tensors(2),
        lambda v: v[1].numel() >= 3 and bool((v[1] != 0).any()) and v[0].dtype is torch.float16,
        "(torch.tensor([0.0, 0.0, 0.0], dtype=torch.float16),"
        " torch.tensor([1.0, 0.0, 0.0], dtype=torch.float16))",
    ),
    "a reduction": (strategies.reduce_ops(), lambda op: True, "torch.distributed.ReduceOp.SUM"),
    "a partition": (strategies.partitions(4), lambda p: True, "((0, 1, 2, 3),)"),
    "two groups": (strategies.partitions(4), lambda p: len(p) > 1, "((0, 1, 2), (3,))"),
    "a group": (strategies.groups(4), lambda g: True, "(0,)"),
    "a group of two": (strategies.groups(4), lambda g: len(g) > 1, "(0, 1)"),
    "a size": (strategies.group_sizes(4), lambda n: True, "1"),
    "a root": (strategies.roots((1, 3)), lambda r: True, "1"),
    "sizes": (strategies.split_sizes(7, 3), lambda s: True, "(3, 2, 2)"),
    "a table": (strategies.split_tables(2), lambda t: True, "((1, 1), (1, 1))"),
    "a shape": (strategies.shapes(), lambda s: True, "(1,)"),
}


class TestShrinking(TestCase):
    def test_to_the_simplest(self):
        for name, (strategy, condition, wanted) in SIMPLEST.items():
            with self.subTest(name):
                self.assertEqual(simplest(strategy, condition), wanted)


class TestTravelling(TestCase):
    """To the ranks by pickle, to the reader by an expression: nothing may be lost."""

    @MANY
    @given(ANY_TENSOR)
    def test_by_pickle(self, x):
        self.assert_same(pickle.loads(pickle.dumps(x)), x)

    @MANY
    @given(ANY_TENSOR)
    def test_by_expression(self, x):
        self.assert_same(eval(expression(x), {"torch": torch}), x)

    def assert_same(self, found, wanted):
        self.assertEqual(found, wanted, rtol=0, atol=0)
        for attribute in ("dtype", "shape", "requires_grad", "is_leaf"):
            self.assertEqual(getattr(found, attribute), getattr(wanted, attribute))
        self.assertEqual(found.stride(), wanted.stride())
        self.assertEqual(found.storage_offset(), wanted.storage_offset())
        if wanted.dtype.is_floating_point:
            self.assertTrue(torch.equal(found.signbit(), wanted.signbit()))

    def test_wherever_it_is(self):
        found = pretty({"a": (torch.tensor([1.0]), SUM)})
        self.assertEqual(
            found.replace("\n ", ""),
            "{'a': (torch.tensor([1.0], dtype=torch.float32), torch.distributed.ReduceOp.SUM)}",
        )

    def test_of_many_elements(self):
        many = MOST_ELEMENTS + 1
        full = expression(torch.zeros(many, 2))
        self.assertEqual(full, f"torch.full(({many}, 2), 0.0, dtype=torch.float32)")
        self.assertEqual(
            expression(torch.arange(many)),
            f"<tensor ({many},) of torch.int64, that begins with 0, 1, 2, 3, 4, 5, 6, 7>",
        )

    def test_other_tensors_are_left_to_torch(self):
        x = torch.nn.Parameter(torch.zeros(1))
        self.assertEqual(expression(x), repr(x))
        x = torch.zeros(2).to_sparse()
        self.assertEqual(expression(x), repr(x))


class TestWorlds(TestCase):
    def test_all_partitions(self):
        found = set(all_drawn(strategies.partitions(4), 500))
        self.assertEqual(len(found), 15)  # Bell's number of 4
        for partition in found:
            self.assertEqual(sorted(rank for group in partition for rank in group), [0, 1, 2, 3])
            self.assertEqual([*partition], sorted(partition))
            self.assertTrue(all([*group] == sorted(group) for group in partition))

    def test_partitions_of_some_groups(self):
        found = all_drawn(strategies.partitions((2, 5, 7, 8), min_groups=2, max_groups=3), 500)
        self.assertEqual({len(partition) for partition in found}, {2, 3})
        self.assertEqual(len(set(found)), 7 + 6)  # Stirling's numbers
        self.assertEqual(
            set(all_drawn(strategies.partitions(3, min_groups=3))), {((0,), (1,), (2,))}
        )

    def test_all_groups(self):
        self.assertEqual(len(set(all_drawn(strategies.groups(4), 500))), 15)
        pairs = set(all_drawn(strategies.groups((1, 4, 6), min_size=2, max_size=2)))
        self.assertEqual(pairs, {(1, 4), (1, 6), (4, 6)})

    def test_sizes_and_roots(self):
        self.assertEqual(set(all_drawn(strategies.group_sizes(4, min_size=2))), {2, 3, 4})
        self.assertEqual(set(all_drawn(strategies.roots(3))), {0, 1, 2})
        self.assertEqual(set(all_drawn(strategies.roots((5, 2)))), {5, 2})

    def test_splits(self):
        found = set(all_drawn(strategies.split_sizes(7, 3), 500))
        self.assertTrue(all(sum(sizes) == 7 and len(sizes) == 3 for sizes in found))
        self.assertTrue(any(0 in sizes for sizes in found))
        self.assertIn((3, 2, 2), found)
        found = set(all_drawn(strategies.split_sizes(7, 3, min_size=2), 100))
        self.assertEqual(found, {(3, 2, 2), (2, 3, 2), (2, 2, 3)})
        self.assertEqual(set(all_drawn(strategies.split_sizes(0, 2))), {(0, 0)})

    def test_tables(self):
        found = all_drawn(strategies.split_tables(3, max_size=2))
        self.assertTrue(all(len(table) == len(table[0]) == 3 for table in found))
        self.assertEqual({n for table in found for row in table for n in row}, {0, 1, 2})
        for table in all_drawn(strategies.split_tables(2, even=True)):
            self.assertEqual(len({n for row in table for n in row}), 1)

    def test_shapes(self):
        found = all_drawn(strategies.shapes(min_dims=2, min_side=2, max_side=9, max_elements=8))
        self.assertEqual(set(found), {(2, 2), (2, 3), (2, 4), (3, 2), (4, 2), (2, 2, 2)})
        self.assertLessEqual(max(math.prod(shape) for shape in all_drawn(strategies.shapes())), 64)

    def test_reductions(self):
        op = dist.ReduceOp
        for dtype, wanted in {
            None: {op.SUM, op.PRODUCT, op.MIN, op.MAX},
            torch.float16: {op.SUM, op.PRODUCT, op.MIN, op.MAX, op.AVG},
            torch.int32: {op.SUM, op.PRODUCT, op.MIN, op.MAX, op.BAND, op.BOR, op.BXOR},
            torch.bool: {op.PRODUCT, op.MIN, op.MAX, op.BAND, op.BOR, op.BXOR},
            torch.complex64: {op.SUM, op.AVG},
        }.items():
            self.assertEqual(set(all_drawn(strategies.reduce_ops(dtype), 100)), wanted)


if __name__ == "__main__":
    unittest.main()
