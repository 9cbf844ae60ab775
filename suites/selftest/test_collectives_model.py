"""The model of the collectives: numbers worked out by hand, and its gradients by differences."""

from __future__ import annotations

import unittest

import torch
import torch.distributed as dist
from torch.autograd import gradcheck

from harness import TestCase
from suites import collectives_model as model

OP = dist.ReduceOp


def tensors(*rows, dtype=torch.int64):
    return [torch.tensor(row, dtype=dtype) for row in rows]


class TestByHand(TestCase):
    def test_reductions(self):
        values = tensors([6, 1], [3, 1], [5, 2])
        for op, wanted in {
            OP.SUM: [14, 4],
            OP.PRODUCT: [90, 2],
            OP.MIN: [3, 1],
            OP.MAX: [6, 2],
            OP.BAND: [0, 0],
            OP.BOR: [7, 3],
            OP.BXOR: [0, 2],
        }.items():
            self.assertEqual(model.reduced(values, op), torch.tensor(wanted))
        means = model.reduced(tensors([1, 2], [2, 5], dtype=torch.float32), OP.AVG)
        self.assertEqual(means, torch.tensor([1.5, 3.5]))

    def test_sums_wrap_and_stay_in_their_dtype(self):
        values = tensors([127], [2], dtype=torch.int8)
        self.assertEqual(model.reduced(values), torch.tensor([-127], dtype=torch.int8))

    def test_each_rank_gets_its_own(self):
        a, b, c = tensors([1, 2, 3], [4, 5, 6], [7, 8, 9])
        values = [a, b, c]
        total = torch.tensor([12, 15, 18])
        self.assertEqual(model.all_reduce(values), [total] * 3)
        self.assertEqual(model.reduce(values, 1), [None, total, None])
        self.assertEqual(model.broadcast(values, 2), [c, c, c])
        self.assertEqual(model.all_gather(values), [[a, b, c]] * 3)
        self.assertEqual(model.all_gather_into_tensor(values), [torch.arange(1, 10)] * 3)
        self.assertEqual(model.gather(values, 0), [[a, b, c], None, None])
        self.assertEqual(model.reduce_scatter_tensor(values), [total[:1], total[1:2], total[2:]])

    def test_lists(self):
        lists = [tensors([1], [2]), tensors([3], [4])]
        self.assertEqual(model.scatter(lists, 1), tensors([3], [4]))
        self.assertEqual(model.reduce_scatter(lists), tensors([4], [6]))
        self.assertEqual(model.reduce_scatter(lists, OP.PRODUCT), tensors([3], [8]))
        self.assertEqual(model.all_to_all(lists), [tensors([1], [3]), tensors([2], [4])])

    def test_uneven_splits(self):
        values = tensors([1, 2, 3], [4])
        found = model.all_to_all_single(values, [[0, 3], [1, 0]])
        self.assertEqual(found, tensors([4], [1, 2, 3]))

    def test_groups(self):
        found = model.in_groups([(0, 2), (1,)], ["a", "b", "c"], model.all_gather)
        self.assertEqual(found, [["a", "c"], ["b"], ["a", "c"]])


class TestGradients(TestCase):
    """As functions of all ranks' inputs at once, in double precision."""

    def test_of_every_collective(self):
        values = [torch.randn(4, 2, dtype=torch.float64, requires_grad=True) for _ in range(2)]
        table = [[1, 3], [2, 2]]
        for collective in (
            lambda *xs: model.all_reduce(xs),
            lambda *xs: model.all_reduce(xs, OP.AVG),
            lambda *xs: model.all_reduce(xs, OP.PRODUCT),
            lambda *xs: model.all_reduce(xs, OP.MAX),
            lambda *xs: model.reduce(xs, 1)[1],
            lambda *xs: model.broadcast(xs, 1),
            lambda *xs: model.all_gather(xs)[0],
            lambda *xs: model.all_gather_into_tensor(xs),
            lambda *xs: model.gather(xs, 0)[0],
            lambda *xs: model.reduce_scatter_tensor(xs),
            lambda *xs: model.all_to_all_single(xs, table),
            lambda *xs: model.scatter([x.chunk(2) for x in xs], 0),
            lambda *xs: model.reduce_scatter([x.chunk(2) for x in xs]),
            lambda *xs: [y for ys in model.all_to_all([x.chunk(2) for x in xs]) for y in ys],
        ):
            self.assertTrue(gradcheck(lambda *xs, c=collective: as_tuple(c(*xs)), values))


def as_tuple(found):
    return tuple(found) if isinstance(found, list) else (found,)


if __name__ == "__main__":
    unittest.main()
