"""DistributedDataParallel in one process, over gloo: it must be the module that it wraps.

In a world of one rank every all-reduce is the identity, so outputs, gradients and parameters must
be those of the plain module, whatever DDP does in between. What only shows with several ranks is in
other suites.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import io

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.nn.parallel import DistributedDataParallel

from harness import (
    TestCase,
    devices,
    hash_store,
    instantiate_parametrized_tests,
    parametrize,
    requires_gloo,
    run_tests,
)


class Branching(nn.Module):
    """Uses its second branch only when it is told to."""

    def __init__(self):
        super().__init__()
        self.always = nn.Linear(4, 4)
        self.sometimes = nn.Linear(4, 4)

    def forward(self, x, use_both=True):
        x = self.always(x)
        return self.sometimes(x) if use_both else x


class LastOutput(nn.Module):
    """The output of an LSTM after the last step, through a linear layer."""

    def __init__(self, inputs, hidden, layers, outputs):
        super().__init__()
        self.lstm = nn.LSTM(inputs, hidden, layers, batch_first=True)
        self.head = nn.Linear(hidden, outputs)

    def forward(self, x, lengths=None):
        steps, _ = self.lstm(x)
        return self.head(steps[:, -1])


# torch 2.13 renames the option.
SYNC_BUFFERS = next(
    name
    for name in ("forward_sync_buffers", "broadcast_buffers")
    if name in inspect.signature(DistributedDataParallel).parameters
)


def small_net():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


def storages_of_gradients(net):
    return {p.grad.untyped_storage().data_ptr() for p in net.parameters()}


@requires_gloo()
@instantiate_parametrized_tests
class TestDDPSingleProcess(TestCase):
    """Each test holds a DDP module against a copy of the module that was not wrapped."""

    def setUp(self):
        super().setUp()
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)
        store = stack.enter_context(hash_store())
        dist.init_process_group("gloo", store=store, rank=0, world_size=1)
        self.addCleanup(dist.destroy_process_group)

    # The three of PyTorch's file

    @devices("cpu", "cuda")
    def test(self, device):
        plain, ddp = self.pair(nn.Linear(2, 2), device)
        self.assert_same_step(plain, ddp, torch.randn(30, 2, device=device))

    @devices("cpu", "cuda")
    def test_rnn(self, device):
        # On a CPU, a third of the size of the GPU variant's: the same kernels in milliseconds.
        batch, steps, inputs, hidden = (8, 12, 16, 32) if device.type == "cpu" else (64, 48, 64, 96)
        plain, ddp = self.pair(LastOutput(inputs, hidden, 2, 10), device)
        for _ in range(3):
            x = torch.randn(batch, steps, inputs, device=device)
            # cuDNN and the CPU kernels sum in an order that differs from call to call.
            self.assert_same_step(plain, ddp, x, rtol=1e-4, atol=1e-5)

    # Parameters and buffers

    @devices("cpu", "cuda")
    @parametrize("sync", [True, False])
    def test_buffers(self, device, sync):
        net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
        plain, ddp = self.pair(net, device, **{SYNC_BUFFERS: sync})
        for _ in range(3):
            self.assert_same_step(plain, ddp, torch.randn(16, 4, device=device))
        self.assertEqual(dict(ddp.module.named_buffers()), dict(plain.named_buffers()))
        self.assertEqual(ddp.module[1].num_batches_tracked, 3)
        plain.eval(), ddp.eval()
        x = torch.randn(5, 4, device=device)
        self.assertEqual(ddp(x), plain(x))

    @devices("cpu", "cuda")
    def test_frozen_parameters_get_no_gradient(self, device):
        net = small_net()
        net[0].requires_grad_(False)
        plain, ddp = self.pair(net, device)
        self.assert_same_step(plain, ddp, torch.randn(6, 4, device=device))
        self.assertIsNone(ddp.module[0].weight.grad)

    def test_module_without_parameters_is_refused(self):
        with self.assertRaisesRegex(RuntimeError, "requires.*gradient"):
            DistributedDataParallel(nn.ReLU())

    @devices("cpu", "cuda")
    def test_state_dict_round_trip(self, device):
        plain, ddp = self.pair(small_net(), device)
        self.assertEqual(list(ddp.state_dict()), [f"module.{name}" for name in plain.state_dict()])
        file = io.BytesIO()
        torch.save(ddp.state_dict(), file)
        file.seek(0)
        _, other = self.pair(small_net(), device)
        x = torch.randn(6, 4, device=device)
        self.assertNotEqual(other(x), plain(x))
        other.load_state_dict(torch.load(file))
        self.assertEqual(other(x), plain(x))
        self.assert_same_step(plain, other, x)

    # Which gradients are reduced, and when

    @devices("cpu", "cuda")
    def test_unused_parameters_are_found(self, device):
        plain, ddp = self.pair(Branching(), device, find_unused_parameters=True)
        for use_both in (False, True, False):
            self.assert_same_step(plain, ddp, torch.randn(6, 4, device=device), use_both)
        _, fresh = self.pair(Branching(), device, find_unused_parameters=True)
        fresh(torch.randn(6, 4, device=device), False).sum().backward()
        self.assertIsNone(fresh.module.sometimes.weight.grad)

    @devices("cpu", "cuda")
    def test_unused_parameters_are_an_error_unless_they_are_looked_for(self, device):
        _, ddp = self.pair(Branching(), device)
        x = torch.randn(6, 4, device=device)
        ddp(x, False).sum().backward()
        with self.assertRaisesRegex(RuntimeError, "finished reduction in the prior iteration"):
            ddp(x, False)

    @devices("cpu", "cuda")
    def test_no_sync_accumulates_without_reducing(self, device):
        plain, ddp = self.pair(small_net(), device)
        reduced = self.count_reductions(ddp)
        batches = [torch.randn(6, 4, device=device) for _ in range(3)]
        with ddp.no_sync():
            for x in batches[:2]:
                ddp(x).square().sum().backward()
            self.assertEqual(reduced, [])
        ddp(batches[2]).square().sum().backward()
        self.assertEqual(len(reduced), 1)
        for x in batches:
            plain(x).square().sum().backward()
        self.assert_same_gradients(plain, ddp)

    @devices("cpu", "cuda")
    def test_static_graph_with_a_layer_used_twice(self, device):
        class Twice(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = nn.Linear(4, 4)

            def forward(self, x):
                return self.layer(self.layer(x))

        plain, ddp = self.pair(Twice(), device, static_graph=True)
        for _ in range(3):
            self.assert_same_step(plain, ddp, torch.randn(6, 4, device=device))

    @devices("cpu", "cuda")
    def test_static_graph_with_unused_parameters(self, device):
        plain, ddp = self.pair(Branching(), device, static_graph=True)
        for _ in range(3):
            self.assert_same_step(plain, ddp, torch.randn(6, 4, device=device), False)

    # How gradients are kept and reduced

    @devices("cpu", "cuda")
    def test_gradients_are_views_of_one_bucket(self, device):
        plain, ddp = self.pair(small_net(), device, gradient_as_bucket_view=True)
        # DDP rebuilds its buckets once, after the first step.
        self.assert_same_step(plain, ddp, torch.randn(6, 4, device=device))
        x = torch.randn(6, 4, device=device)
        for net in (plain, ddp):
            net(x).square().sum().backward()
        self.assert_same_gradients(plain, ddp)
        self.assertEqual([len(storages_of_gradients(net)) for net in (plain, ddp)], [4, 1])

    @devices("cpu", "cuda")
    def test_comm_hook_decides_what_the_gradients_become(self, device):
        plain, ddp = self.pair(small_net(), device)

        def tenfold(state, bucket):
            future = torch.futures.Future()
            future.set_result(bucket.buffer() * 10)
            return future

        ddp.register_comm_hook(None, tenfold)
        x = torch.randn(6, 4, device=device)
        ddp(x).square().sum().backward()
        (10 * plain(x).square().sum()).backward()
        self.assert_same_gradients(plain, ddp)

    @devices("cpu", "cuda")
    def test_allreduce_hook_is_what_ddp_does_without_one(self, device):
        plain, ddp = self.pair(small_net(), device)
        ddp.register_comm_hook(None, default_hooks.allreduce_hook)
        for _ in range(2):
            self.assert_same_step(plain, ddp, torch.randn(6, 4, device=device))

    @devices("cpu", "cuda")
    def test_fp16_hook_rounds_the_gradients(self, device):
        plain, ddp = self.pair(small_net(), device)
        ddp.register_comm_hook(None, default_hooks.fp16_compress_hook)
        x = torch.randn(6, 4, device=device)
        ddp(x).square().sum().backward()
        plain(x).square().sum().backward()
        for mine, theirs in zip(ddp.parameters(), plain.parameters(), strict=True):
            self.assertEqual(mine.grad, theirs.grad.half().float())

    # How they are checked

    def pair(self, net, device, **options):
        """A copy of the net, and DDP around another, both on the device."""
        net.to(device)
        device_ids = None if device.type == "cpu" else [device.index]
        wrapped = DistributedDataParallel(copy.deepcopy(net), device_ids=device_ids, **options)
        return copy.deepcopy(net), wrapped

    def assert_same_step(self, plain, ddp, *inputs, **tolerance):
        """Output, gradients, and parameters after a step of SGD."""
        outputs = [net(*inputs) for net in (plain, ddp)]
        self.assertEqual(outputs[1], outputs[0], **tolerance)
        for y in outputs:
            y.square().sum().backward()
        self.assert_same_gradients(plain, ddp, **tolerance)
        for net in (plain, ddp):
            optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
            optimizer.step()
            optimizer.zero_grad()
        self.assertEqual(list(ddp.parameters()), list(plain.parameters()), **tolerance)

    def assert_same_gradients(self, plain, ddp, **tolerance):
        gradients = [[p.grad for p in net.parameters()] for net in (plain, ddp)]
        self.assertTrue(any(g is not None and g.any() for g in gradients[0]))
        self.assertEqual(gradients[1], gradients[0], **tolerance)

    def count_reductions(self, ddp):
        """A list that grows by one for every bucket that is reduced."""
        reduced = []

        def hook(state, bucket):
            reduced.append(bucket.index())
            return default_hooks.allreduce_hook(dist.group.WORLD, bucket)

        ddp.register_comm_hook(None, hook)
        return reduced


if __name__ == "__main__":
    run_tests()
