"""The collectives of `torch.distributed.nn`, which autograd can see through, over gloo.

Every operation is checked twice, output and gradient: on constant inputs against the closed form,
and on random inputs against autograd on a model of the operation that computes all ranks' outputs
in one process.

In the closed forms N is the world size, T = 1 + 2 + … + N, rank r holds values made of r + 1, and
the loss is the sum over ranks s of (s + 1) times the elements of the output on s.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import wraps

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as dist_nn

from harness import (
    MultiProcessTestCase,
    devices,
    instantiate_parametrized_tests,
    parametrize,
    requires_gloo,
    run_tests,
    world_sizes,
)

Tensors = Sequence[torch.Tensor]
#: From the inputs of all ranks to the outputs of all ranks; None where torch does not define one.
Model = Callable[[list[list[torch.Tensor]]], list[list[torch.Tensor] | None]]

SHAPE = (3, 4)


def every_variant(test):
    """On CPU and CUDA, in float32 and float64, in worlds of 1 to 4 ranks."""

    @wraps(test)
    def variant(self, device, dtype):
        self.device, self.dtype = device, dtype
        test(self)

    for decorator in (
        world_sizes(1, 2, 3, 4),
        parametrize("dtype", [torch.float32, torch.float64]),
        devices("cpu", "cuda"),
        requires_gloo(),
    ):
        variant = decorator(variant)
    return variant


@instantiate_parametrized_tests
class TestNNFunctionsGloo(MultiProcessTestCase):
    """Each rank runs `operation` on its inputs; outputs and gradients must be the model's."""

    # The eight collectives

    @every_variant
    def test_broadcast(self):
        for src in self.roots():
            self.check_closed_form(
                lambda x, src=src: [dist_nn.broadcast(x, src)],
                inputs=[self.constant(self.rank + 1)],
                outputs=[src + 1],
                gradients=[self.total if self.rank == src else 0],
            )
            self.check_against_model(
                lambda x, src=src: [dist_nn.broadcast(x, src)],
                lambda ranks, src=src: [[ranks[src][0]] for _ in ranks],
            )

    @every_variant
    def test_reduce(self):
        for dst in self.roots():
            self.check_closed_form(
                lambda x, dst=dst: [dist_nn.reduce(x, dst)],
                inputs=[self.constant(self.rank + 1)],
                outputs=[self.total] if self.rank == dst else None,
                gradients=[dst + 1],
            )
            self.check_against_model(
                lambda x, dst=dst: [dist_nn.reduce(x, dst)],
                lambda ranks, dst=dst: only_on(dst, [sum(x for (x,) in ranks)], ranks),
            )

    @every_variant
    def test_allreduce(self):
        self.check_closed_form(
            lambda x: [dist_nn.all_reduce(x)],
            inputs=[self.constant(self.rank + 1)],
            outputs=[self.total],
            gradients=[self.total],
        )
        self.check_against_model(
            lambda x: [dist_nn.all_reduce(x)],
            lambda ranks: [[sum(x for (x,) in ranks)] for _ in ranks],
        )

    @every_variant
    def test_all_gather(self):
        self.check_closed_form(
            dist_nn.all_gather,
            inputs=[self.constant(self.rank + 1)],
            outputs=[r + 1 for r in self.ranks],
            gradients=[self.total],
        )
        self.check_against_model(
            dist_nn.all_gather, lambda ranks: [[x for (x,) in ranks] for _ in ranks]
        )

    @every_variant
    def test_all_to_all(self):
        n = self.world_size
        self.check_closed_form(
            self.all_to_all,
            inputs=[self.constant(self.rank * n + j + 1) for j in self.ranks],
            outputs=[k * n + self.rank + 1 for k in self.ranks],
            gradients=[j + 1 for j in self.ranks],
        )
        self.check_against_model(self.all_to_all, transposed, inputs_per_rank=n)

    @every_variant
    def test_all_to_all_single(self):
        n = self.world_size
        self.check_closed_form(
            lambda x: [dist_nn.all_to_all_single(torch.empty_like(x), x)],
            inputs=[torch.cat([self.constant(self.rank * n + j + 1) for j in self.ranks])],
            outputs=[torch.cat([self.constant(k * n + self.rank + 1) for k in self.ranks])],
            gradients=[torch.cat([self.constant(j + 1) for j in self.ranks])],
        )
        self.check_against_model(
            lambda x: [dist_nn.all_to_all_single(torch.empty_like(x), x)],
            lambda ranks: [
                [torch.cat(parts)] for parts in transposed([x.chunk(n) for (x,) in ranks])
            ],
            shape=(2 * n, 5),
        )

    @every_variant
    def test_gather(self):
        for dst in self.roots():
            on_dst = self.rank == dst
            self.check_closed_form(
                lambda x, dst=dst: dist_nn.gather(x, dst),
                inputs=[self.constant(self.rank + 1)],
                outputs=[r + 1 for r in self.ranks] if on_dst else None,
                gradients=[dst + 1],
            )
            self.check_against_model(
                lambda x, dst=dst: dist_nn.gather(x, dst),
                lambda ranks, dst=dst: only_on(dst, [x for (x,) in ranks], ranks),
            )

    @every_variant
    def test_scatter(self):
        for src in self.roots():
            self.check_closed_form(
                lambda *xs, src=src: [dist_nn.scatter(xs, src)],
                inputs=[self.constant(j + 1) for j in self.ranks],
                outputs=[self.rank + 1],
                gradients=[j + 1 if self.rank == src else 0 for j in self.ranks],
            )
            self.check_against_model(
                lambda *xs, src=src: [dist_nn.scatter(xs, src)],
                lambda ranks, src=src: [[x] for x in ranks[src]],
                inputs_per_rank=self.world_size,
            )

    # What else torch.distributed.nn has

    @every_variant
    def test_all_to_all_single_uneven(self):
        """Rank r sends j + 1 rows to rank j."""
        sent = [j + 1 for j in self.ranks]

        def operation(x):
            received = [self.rank + 1] * self.world_size
            return [dist_nn.all_to_all_single(x.new_empty(sum(received), 4), x, received, sent)]

        self.check_closed_form(
            operation,
            inputs=[torch.full((sum(sent), 4), self.rank + 1)],
            outputs=[torch.cat([torch.full((self.rank + 1, 4), k + 1) for k in self.ranks])],
            gradients=[torch.cat([torch.full((j + 1, 4), j + 1) for j in self.ranks])],
        )
        self.check_against_model(
            operation,
            lambda ranks: [
                [torch.cat(parts)] for parts in transposed([x.split(sent) for (x,) in ranks])
            ],
            shape=(sum(sent), 4),
        )

    @every_variant
    def test_reduce_scatter(self):
        def operation(*xs):
            return [dist_nn.reduce_scatter(torch.empty_like(xs[0]), xs)]

        self.check_closed_form(
            operation,
            inputs=[self.constant(self.rank + 1 + j) for j in self.ranks],
            outputs=[self.total + self.world_size * self.rank],
            gradients=[j + 1 for j in self.ranks],
        )
        self.check_against_model(
            operation,
            lambda ranks: [[sum(parts)] for parts in transposed(ranks)],
            inputs_per_rank=self.world_size,
        )

    @every_variant
    def test_all_gather_base(self):
        def operation(x):
            return [dist_nn._all_gather_base(x.new_empty(3 * self.world_size, 4), x)]

        self.check_closed_form(
            operation,
            inputs=[self.constant(self.rank + 1)],
            outputs=[torch.cat([self.constant(r + 1) for r in self.ranks])],
            gradients=[self.total],
        )
        self.check_against_model(
            operation, lambda ranks: [[torch.cat([x for (x,) in ranks])] for _ in ranks]
        )

    @every_variant
    def test_allreduce_twice_in_one_graph(self):
        """The gradient of a collective of a collective: every sum is over all ranks twice."""
        self.check_closed_form(
            lambda x: [dist_nn.all_reduce(dist_nn.all_reduce(x) * (self.rank + 1))],
            inputs=[self.constant(self.rank + 1)],
            outputs=[self.total**2],
            gradients=[self.total**2],
        )

    # How they are checked

    def perRankSetUp(self):
        # torch 2.13 deprecates some of the functions under test.
        filters = warnings.catch_warnings()
        filters.__enter__()
        self.addCleanup(filters.__exit__, None, None, None)
        warnings.filterwarnings("ignore", r"`?torch\.distributed\..*deprecated", FutureWarning)
        self.init_process_group("gloo")

    @property
    def ranks(self) -> range:
        return range(self.world_size)

    @property
    def total(self) -> int:
        return sum(r + 1 for r in self.ranks)

    def roots(self) -> list[int]:
        return sorted({0, self.world_size - 1})

    def constant(self, value) -> torch.Tensor:
        return torch.full(SHAPE, value)

    def all_to_all(self, *xs):
        return dist_nn.all_to_all([torch.empty_like(x) for x in xs], xs)

    def check_closed_form(self, operation, inputs, outputs, gradients):
        """Numbers stand for tensors filled with them; None for outputs that torch leaves open."""
        leaves = [self.leaf(x) for x in inputs]
        found = self.supported(operation, *leaves)
        weights = [torch.full_like(y, self.rank + 1) for y in found]
        if outputs is not None:
            self.assert_tensors(found, outputs)
        self.differentiate(found, weights)
        self.assert_tensors([x.grad for x in leaves], gradients)

    def check_against_model(self, operation, model: Model, inputs_per_rank=1, shape=SHAPE):
        """Random inputs and weights, the same in the model here as on the ranks that hold them."""
        everywhere = [[self.random(shape) for _ in range(inputs_per_rank)] for _ in self.ranks]
        expected = model(everywhere)
        weights = [[self.random(y.shape, leaf=False) for y in ys or ()] for ys in expected]

        leaves = [self.leaf(x) for x in everywhere[self.rank]]
        found = self.supported(operation, *leaves)
        mine = weights[self.rank] or [torch.ones_like(y) for y in found]
        if expected[self.rank] is not None:
            self.assert_tensors(found, expected[self.rank])
        self.differentiate(found, mine)

        outputs = [y for ys in expected for y in ys or ()]
        torch.autograd.backward(outputs, [w for ws in weights for w in ws])
        wanted = [torch.zeros_like(x) if x.grad is None else x.grad for x in everywhere[self.rank]]
        self.assert_tensors([x.grad for x in leaves], wanted)

    def leaf(self, x) -> torch.Tensor:
        return x.detach().to(self.device, self.dtype).clone().requires_grad_()

    def random(self, shape, leaf=True) -> torch.Tensor:
        """The generator was seeded alike on all ranks, so they draw alike."""
        x = torch.randn(shape, dtype=torch.float64).to(self.device, self.dtype)
        return x.requires_grad_() if leaf else x

    def supported(self, operation, *inputs) -> Tensors:
        """The operation's outputs; the test is skipped if the backend says it cannot."""
        try:
            return operation(*inputs)
        except RuntimeError as error:
            self.skip_if_unsupported(error)
            raise

    def differentiate(self, outputs: Tensors, weights: Tensors):
        try:
            torch.autograd.backward(outputs, weights)
        except RuntimeError as error:
            self.skip_if_unsupported(error)
            raise

    def skip_if_unsupported(self, error: RuntimeError):
        first = str(error).splitlines()[0]
        if "not support" in first.lower():
            self.skipTest(f"{dist.get_backend()}: {first}")

    def assert_tensors(self, found: Tensors, wanted):
        self.assertEqual(len(found), len(wanted))
        for x, y in zip(found, wanted, strict=True):
            expected = y if isinstance(y, torch.Tensor) else torch.full_like(x, y)
            self.assertEqual(x, expected.to(self.device, self.dtype))


def only_on(root: int, outputs: Tensors, ranks) -> list[Tensors | None]:
    return [outputs if r == root else None for r in range(len(ranks))]


def transposed(table) -> list[list[torch.Tensor]]:
    """What rank r has for rank s, as what rank s gets from each r."""
    return [list(column) for column in zip(*table, strict=True)]


if __name__ == "__main__":
    run_tests()
