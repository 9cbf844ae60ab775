"""Rank tests whose ranks assert together, and tests in which something is done to a rank."""

from __future__ import annotations

import time
from datetime import timedelta

import torch
import torch.distributed as dist

from harness import (
    MultiProcessTestCase,
    MultiThreadedTestCase,
    backends,
    delay_rank,
    instantiate_parametrized_tests,
    kill_rank,
    stop_rank,
    timeout,
    world_sizes,
)


class Assertions:
    """The same for ranks of both kinds."""

    def test_equal(self):
        self.assertEqualOnAllRanks(self.rank, self.rank)

    def test_one_differs(self):
        self.assertEqualOnAllRanks(torch.tensor([1.0, self.rank == 1]), torch.tensor([1.0, 0.0]))

    def test_all_differ(self):
        self.assertEqualOnAllRanks(1, 2)

    def test_agree(self):
        self.assertRanksAgree({"loss": torch.ones(3), "step": 7})

    def test_agree_nearly(self):
        self.assertRanksAgree(torch.ones(3) + self.rank * 1e-7)

    def test_disagree(self):
        self.assertRanksAgree(torch.full((3,), float(self.rank == 2)))

    def test_one_leaves(self):
        self.assertRanksAgree(0)
        if self.rank != 1:
            self.assertRanksAgree(1)

    def test_one_fails(self):
        self.assertRanksAgree(0)
        if self.rank == 1:
            raise ValueError("early")
        self.assertRanksAgree(1)

    def test_two_meetings(self):
        if self.rank == 0:
            self.assertRanksAgree(1)
        else:
            self.assertEqualOnAllRanks(1, 1)

    def test_one_waits_elsewhere(self):
        if self.rank == 0:
            self.assertRanksAgree(1)
        else:
            dist.barrier()

    def test_caught_by_all(self):
        with self.assertRaises(AssertionError):
            self.test_one_differs()
        self.assertRanksAgree(1)


class InProcesses(Assertions, MultiProcessTestCase):
    world_size = 3

    def perRankSetUp(self):
        self.init_process_group()


class InThreads(Assertions, MultiThreadedTestCase):
    world_size = 3


class Survivors(MultiProcessTestCase):
    """What survivors see when something is done to rank 1."""

    world_size = 3

    def steps(self, count: int) -> None:
        for _ in range(count):
            dist.all_reduce(torch.ones(2))

    @kill_rank(1, at=3, survivors_raise=RuntimeError, match="losed by peer|onnection")
    def test_killed(self):
        self.init_process_group()
        self.steps(5)

    @kill_rank(1, at=1)
    def test_killed_and_seen_to(self):
        self.init_process_group()
        with self.assertRaises(RuntimeError):
            self.steps(1)

    @kill_rank(1, at=2)
    def test_killed_and_not_seen_to(self):
        self.init_process_group()
        self.steps(5)

    @kill_rank(1, at=2, survivors_raise=ValueError)
    def test_other_error(self):
        self.init_process_group()
        self.steps(5)

    @kill_rank(1, at=9)
    def test_never(self):
        self.init_process_group()
        self.steps(2)

    @kill_rank(7, at=1)
    def test_no_such_rank(self):
        self.init_process_group()

    @stop_rank(1, at=2, survivors_raise=RuntimeError, match="imed out|imeout|onnection closed")
    @timeout(60)
    def test_stopped(self):
        self.init_process_group(timeout=timedelta(seconds=1))
        self.steps(3)

    @delay_rank(1, at=2, seconds=0.3)
    def test_delayed(self):
        self.init_process_group()
        self.steps(1)
        began = time.monotonic()
        self.steps(1)
        self.assertGreater(time.monotonic() - began, 0.2)

    @kill_rank(1, at=2, survivors_raise=RuntimeError)
    @kill_rank(2, at=2)
    def test_two(self):
        self.init_process_group()
        self.steps(5)

    @kill_rank(1, at=2, survivors_raise=RuntimeError)
    def test_in_backward(self):
        self.init_process_group()
        model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 2))
        for _ in range(8):
            model(torch.ones(1, 2)).sum().backward()


class ThreadSurvivors(MultiThreadedTestCase):
    world_size = 2

    @kill_rank(1, at=1)
    def test_killed(self):
        dist.barrier()


@instantiate_parametrized_tests
class Variants(MultiProcessTestCase):
    @world_sizes(1, 2, 4)
    @backends("gloo", "nccl", "nobody")
    def test_sum(self, backend):
        self.init_process_group(backend)
        x = torch.ones(2, device=self.device)
        dist.all_reduce(x)
        self.assertRanksAgree(x)
        self.assertEqual(x[0].item(), self.world_size)


class Debugged(MultiProcessTestCase):
    """Rank 1 stops in the debugger, for longer than the test may take."""

    world_size = 2
    timeout_s = 1.0

    def test_breakpoint(self):
        self.init_process_group()
        x = torch.full((2,), float(self.rank + 1))
        if self.rank == 1:
            breakpoint()
        dist.all_reduce(x)
        self.assertEqual(x[0].item(), 3)

    def test_all_at_once(self):
        answer = 40 + self.rank
        for _ in range(2):
            breakpoint()
        self.assertEqual(answer, 40 + self.rank)
