"""Correct rank tests with work in flight; `communicates.py` runs them."""

from __future__ import annotations

import threading

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as dist_nn
from torch.utils._python_dispatch import TorchDispatchMode


class Counting(TorchDispatchMode):
    """A dispatch mode of the user's own."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls += 1
        return func(*args, **(kwargs or {}))


class Programs:
    """What the programs share."""

    def total(self):
        return sum(range(1, self.world_size + 1))


class WorkPrograms(Programs):
    """Work that is waited for late, by others, or in odd places."""

    def test_wait_much_later_in_another_order(self):
        self.join_world()
        xs = [torch.ones(8) for _ in range(6)]
        works = [dist.all_reduce(x, async_op=True) for x in xs]
        other = torch.rand(8, 8) @ torch.rand(8, 8)
        dist.barrier()
        order = works if self.rank % 2 else works[::-1]
        for work in order:
            work.wait()
        self.assertEqual(sum(xs)[0].item(), 6.0 * self.world_size)
        self.assertEqual(other.shape, (8, 8))

    def test_wait_twice(self):
        self.join_world()
        x = torch.ones(2)
        work = dist.all_reduce(x, async_op=True)
        work.wait()
        x += 1
        work.wait()
        self.assertEqual(x[0].item(), self.world_size + 1)

    def test_polls_until_completed(self):
        self.join_world()
        x = torch.ones(2)
        work = dist.all_reduce(x, async_op=True)
        while not work.is_completed():
            pass
        x += 1
        self.assertEqual(x[0].item(), self.world_size + 1)

    def test_waits_for_the_future(self):
        self.join_world()
        x = torch.ones(2)
        dist.all_reduce(x, async_op=True).get_future().wait()
        x += 1
        self.assertEqual(x[0].item(), self.world_size + 1)

    def test_future_then(self):
        self.join_world()
        x = torch.ones(2)
        future = dist.all_reduce(x, async_op=True).get_future()
        halved = future.then(lambda done: done.value()[0] / 2)
        self.assertEqual(halved.wait()[0].item(), self.world_size / 2)

    def test_barrier_async(self):
        self.join_world()
        work = dist.barrier(async_op=True)
        x = torch.ones(2) * 2
        work.wait()
        self.assertEqual(x[0].item(), 2.0)

    def test_two_threads_one_waits(self):
        self.join_world()
        x = torch.ones(2)
        work = dist.all_reduce(x, async_op=True)
        thread = threading.Thread(target=work.wait)
        thread.start()
        thread.join()
        self.assertEqual(x[0].item(), self.world_size)

    def test_only_one_rank_waits_at_once(self):
        self.join_world()
        x = torch.ones(2)
        work = dist.all_reduce(x, async_op=self.rank > 0)
        if work is not None:
            work.wait()
        self.assertEqual(x[0].item(), self.world_size)

    def test_own_mode_around(self):
        self.join_world()
        x = torch.ones(2)
        with Counting() as mode:
            work = dist.all_reduce(x, async_op=True)
            y = torch.ones(3) * 2
            work.wait()
            x += 1
        self.assertGreater(mode.calls, 0)
        self.assertEqual((x[0].item(), y[0].item()), (self.world_size + 1.0, 2.0))

    def test_own_mode_entered_in_flight(self):
        self.join_world()
        x = torch.ones(2)
        work = dist.all_reduce(x, async_op=True)
        with Counting() as mode:
            work.wait()
            x += 1
        x += 1
        again = dist.all_reduce(x, async_op=True)
        mode.__enter__()
        again.wait()
        mode.__exit__(None, None, None)
        dist.all_reduce(x)
        self.assertGreater(mode.calls, 0)

    def test_grad_modes(self):
        self.join_world()
        with torch.inference_mode():
            x = torch.ones(2, 2)
            work = dist.all_reduce(x, async_op=True)
            y = torch.ones(2, 2) @ torch.ones(2, 2)
            work.wait()
            x += y
        with torch.no_grad():
            z = torch.ones(2)
            work = dist.all_reduce(z, async_op=True)
            work.wait()
            z.view(2).add_(1)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            w = torch.nn.functional.linear(y.clone(), torch.ones(2, 2))
            dist.all_reduce(w)
        self.assertEqual(w.dtype, torch.bfloat16)

    def test_looks_at_the_shape_in_flight(self):
        self.join_world()
        x = torch.ones(2, 3)
        work = dist.all_reduce(x, async_op=True)
        buffers = [torch.empty_like(x), torch.zeros_like(x), x.new_ones(3), torch.rand_like(x)]
        view = x.view(-1)[1:].unsqueeze(0).t()
        self.assertEqual((x.shape, x.stride(), view.numel()), ((2, 3), (3, 1), 5))
        self.assertTrue(x.is_contiguous())
        work.wait()
        buffers[1].copy_(x)

    def test_memory_used_again(self):
        self.join_world()
        for _ in range(20):
            x = torch.ones(1000)
            work = dist.all_reduce(x, async_op=True)
            work.wait()
            del x, work
            y = torch.zeros(1000)
            y += 1

    def test_backward_with_collectives_in_hooks(self):
        self.join_world()
        layer = torch.nn.Linear(4, 4)
        works = []

        def reduce_later(parameter):
            works.append(dist.all_reduce(parameter.grad, async_op=True))

        for parameter in layer.parameters():
            parameter.register_post_accumulate_grad_hook(reduce_later)
        for _ in range(2):
            layer(torch.ones(2, 4)).sum().backward()
            for work in works:
                work.wait()
            works.clear()
            layer.zero_grad()
            torch.ones(2) + 1

    def test_waits_in_backward(self):
        self.join_world()
        x = torch.ones(3)
        work = dist.all_reduce(x, async_op=True)
        y = torch.ones(3, requires_grad=True)
        y.register_hook(lambda grad: work.wait() and None)
        (y * 2).sum().backward()
        x += 1
        again = dist.all_reduce(x, async_op=True)
        again.wait()
        x += 1

    def test_checkpointed_collectives(self):
        self.join_world()

        def block(x):
            return dist_nn.all_reduce(x.sin())

        x = torch.ones(3, requires_grad=True)
        for reentrant in (False, True):
            torch.utils.checkpoint.checkpoint(block, x, use_reentrant=reentrant).sum().backward()
        self.assertIsNotNone(x.grad)

    def test_torch_func_in_flight(self):
        self.join_world()
        x = torch.ones(3)
        work = dist.all_reduce(x, async_op=True)
        slope = torch.func.grad(lambda v: (v * v).sum())(torch.ones(3))
        rows = torch.func.vmap(lambda v: v.sum())(torch.ones(2, 3))
        work.wait()
        self.assertEqual((slope[0].item(), rows[0].item()), (2.0, 3.0))
