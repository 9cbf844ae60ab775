"""Gradients across ranks on drawn values: `torch.distributed.nn.functional`, and DDP.

The functions are held against autograd on the model of each, which has all ranks in one process,
and, as `gradcheck` does, against differences of the outputs that the ranks themselves compute. DDP
on shards is held against one process with the whole batch.
"""

from __future__ import annotations

import copy

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as dist_nn
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from harness import run_tests, strategies
from suites import collectives_model as model
from suites.properties import PropertyTestCase

RANKS = 3

#: The step of a difference. The functions are linear, so that only rounding is an error.
STEP = 1e-2

SHAPES = strategies.shapes(min_dims=1, max_dims=2, max_side=3)


@st.composite
def inputs(draw, size, tensors_per_rank=1, shape=SHAPES):
    """For each rank its tensors, in double precision, and a seed for what else is needed."""
    values = draw(strategies.per_rank_tensors(size * tensors_per_rank, torch.float64, shape))
    seed = draw(st.integers(0, 99))
    n = tensors_per_rank
    return [values[r * n : (r + 1) * n] for r in range(size)], seed


@st.composite
def split_inputs(draw, size):
    """For each rank a tensor; how many of its rows go to which rank; a seed."""
    table = draw(strategies.split_tables(size, max_size=2))
    values = [[draw(strategies.tensors(torch.float64, (sum(sizes), 2)))] for sizes in table]
    return values, table, draw(st.integers(0, 99))


class TestFunctions(PropertyTestCase):
    """The collectives of `torch.distributed.nn.functional`."""

    world_size = RANKS

    @given(case=inputs(RANKS), op=st.sampled_from([dist.ReduceOp.SUM]))
    def test_all_reduce(self, case, op):
        self.check(
            lambda x: [dist_nn.all_reduce(x, op)],
            lambda ranks: [[y] for y in model.all_reduce([x for (x,) in ranks], op)],
            *case,
        )

    @given(case=inputs(RANKS))
    def test_all_reduce_twice(self, case):
        """A collective of what a collective has computed."""

        def twice(values):
            once = model.all_reduce(values)
            return model.all_reduce([y * (r + 1) for r, y in enumerate(once)])

        self.check(
            lambda x: [dist_nn.all_reduce(dist_nn.all_reduce(x) * (self.rank + 1))],
            lambda ranks: [[y] for y in twice([x for (x,) in ranks])],
            *case,
        )

    @given(case=inputs(RANKS), root=strategies.roots(RANKS))
    def test_broadcast(self, case, root):
        self.check(
            lambda x: [dist_nn.broadcast(x, root)],
            lambda ranks: model.broadcast(ranks, root),
            *case,
        )

    @given(case=inputs(RANKS), root=strategies.roots(RANKS))
    def test_reduce(self, case, root):
        self.check(
            lambda x: [dist_nn.reduce(x, root)],
            lambda ranks: listed(model.reduce([x for (x,) in ranks], root)),
            *case,
        )

    @given(case=inputs(RANKS))
    def test_all_gather(self, case):
        self.check(dist_nn.all_gather, lambda ranks: model.all_gather([x for (x,) in ranks]), *case)

    @given(case=inputs(RANKS), root=strategies.roots(RANKS))
    def test_gather(self, case, root):
        self.check(
            lambda x: dist_nn.gather(x, root),
            lambda ranks: model.gather([x for (x,) in ranks], root),
            *case,
        )

    @given(case=inputs(RANKS, tensors_per_rank=RANKS), root=strategies.roots(RANKS))
    def test_scatter(self, case, root):
        self.check(
            lambda *xs: [dist_nn.scatter(xs, root)],
            lambda ranks: listed(model.scatter(ranks, root)),
            *case,
        )

    @given(case=inputs(RANKS, tensors_per_rank=RANKS))
    def test_reduce_scatter(self, case):
        self.check(
            lambda *xs: [dist_nn.reduce_scatter(torch.empty_like(xs[0]), xs)],
            lambda ranks: listed(model.reduce_scatter(ranks)),
            *case,
        )

    @given(case=inputs(RANKS, tensors_per_rank=RANKS))
    def test_all_to_all(self, case):
        self.check(
            lambda *xs: dist_nn.all_to_all([torch.empty_like(x) for x in xs], xs),
            model.all_to_all,
            *case,
        )

    @given(case=split_inputs(RANKS))
    def test_all_to_all_single(self, case):
        values, table, seed = case
        received = [sizes[self.rank] for sizes in table]

        def operation(x):
            found = x.new_empty(sum(received), 2)
            return [dist_nn.all_to_all_single(found, x, received, list(table[self.rank]))]

        self.check(
            operation,
            lambda ranks: listed(model.all_to_all_single([x for (x,) in ranks], table)),
            values,
            seed,
        )

    def check(self, operation, modelled, values, seed):
        """Hold outputs and gradients against the model, then the gradients against differences.

        Args:
            operation: this rank's collective, from its tensors to a list of them.
            modelled: from all ranks' lists of tensors to all ranks' lists, or None where torch
                leaves open what a rank gets.
            values: the tensors, by rank.
            seed: of the weights of the loss and of the directions.
        """
        generator = torch.Generator().manual_seed(seed)

        def random_like(x):
            return torch.randn(x.shape, dtype=x.dtype, generator=generator)

        everywhere = [[x.clone().requires_grad_() for x in xs] for xs in values]
        expected = modelled(everywhere)
        weights = [None if ys is None else [random_like(y) for y in ys] for ys in expected]
        directions = [[random_like(x) for x in xs] for xs in values]
        outputs = [y for ys in expected for y in ys or ()]
        torch.autograd.backward(outputs, [w for ws in weights for w in ws or ()])

        mine = [x.clone().requires_grad_() for x in values[self.rank]]
        found = operation(*mine)
        if expected[self.rank] is not None:
            self.assertEqual(list(found), list(expected[self.rank]))
        chosen = weights[self.rank]
        torch.autograd.backward(found, chosen or [torch.ones_like(y) for y in found])
        for x, modelled_x in zip(mine, everywhere[self.rank], strict=True):
            wanted = torch.zeros_like(x) if modelled_x.grad is None else modelled_x.grad
            self.assertEqual(x.grad, wanted)
        self.check_differences(operation, mine, chosen, directions[self.rank])

    def check_differences(self, operation, mine, weights, directions):
        """All ranks step at once: the sum of their losses must change by the sum of the slopes."""
        losses = []
        with torch.no_grad():
            for step in (STEP, -STEP):
                ys = operation(*(x + step * d for x, d in zip(mine, directions, strict=True)))
                losses.append(dot(ys, weights) if weights else torch.zeros((), dtype=torch.float64))
            both = torch.stack(
                [(losses[0] - losses[1]) / (2 * STEP), dot([x.grad for x in mine], directions)]
            )
            dist.all_reduce(both)
        self.assertEqual(both[0], both[1], rtol=1e-7, atol=1e-7)


def dot(xs, ys):
    """The inner product of two lists of tensors."""
    zero = torch.zeros((), dtype=torch.float64)
    return sum(((x * y).sum() for x, y in zip(xs, ys, strict=True)), zero)


def listed(results):
    """Each rank's result as a list of one."""
    return [None if result is None else [result] for result in results]


ACTIVATIONS = (nn.Identity, nn.Tanh, nn.ReLU, nn.GELU)
FEATURES = 3


@st.composite
def networks(draw):
    """A small network, as the widths of its layers, its activation and whether it has biases."""
    widths = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    return tuple(widths), draw(st.sampled_from(ACTIVATIONS)), draw(st.booleans())


class TestDDP(PropertyTestCase):
    """N ranks on shards train as one process on the whole batch does."""

    world_size = RANKS

    @given(
        network=networks(),
        rows=strategies.per_rank(st.integers(1, 3), RANKS),
        options=st.fixed_dictionaries(
            {
                "gradient_as_bucket_view": st.booleans(),
                "static_graph": st.booleans(),
                "bucket_cap_mb": st.sampled_from([25, 1e-4]),
            }
        ),
        seed=st.integers(0, 99),
    )
    def test_shards_are_the_whole_batch(self, network, rows, options, seed):
        """DDP takes the mean over ranks of their gradients, whatever each had to do.

        So with shards of different sizes the loss of a rank is its sum, over what a rank has on
        average, and the sum of the gradients is that of the mean loss of all rows.
        """
        torch.manual_seed(seed)
        alone = built(*network)
        ddp = DistributedDataParallel(copy.deepcopy(alone), **options)
        batches = [torch.randn(sum(rows), FEATURES, dtype=torch.float64) for _ in range(2)]
        trained = [(alone, sum(rows), slice(None))]
        start = sum(rows[: self.rank])
        trained += [(ddp, sum(rows) / self.world_size, slice(start, start + rows[self.rank]))]
        for net, count, shard in trained:
            optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
            for batch in batches:
                optimizer.zero_grad()
                (net(batch[shard]).square().sum() / count).backward()
                optimizer.step()
        pairs = zip(alone.named_parameters(), ddp.module.named_parameters(), strict=True)
        for (name, wanted), (_, found) in pairs:
            self.assertEqual(found.grad, wanted.grad, msg=f"gradient of {name}")
            self.assertEqual(found, wanted, msg=name)


def built(widths, activation, bias):
    sizes = [FEATURES, *widths]
    layers = []
    for before, after in zip(sizes, widths, strict=False):
        layers += [nn.Linear(before, after, bias=bias, dtype=torch.float64), activation()]
    return nn.Sequential(*layers)


if __name__ == "__main__":
    run_tests()
