"""Tests whose ranks go through their phases in ways of their own, and such as wait until told."""

from __future__ import annotations

import os
import signal
import sys
import threading
import unittest

import torch
import torch.distributed as dist

from harness import MultiProcessTestCase, timeout
from harness.common_distributed import MultiThreadedTestCase

FLOOD_LINES = 10_000
# Of threads, which share the test's memory: when those that wait may go on.
GO = threading.Event()


class Timed(MultiProcessTestCase):
    world_size = 2

    @property
    def is_last(self):
        return self.rank == self.world_size - 1

    def perRankSetUp(self):
        if self._testMethodName == "test_dies_in_set_up" and self.is_last:
            os.kill(os.getpid(), signal.SIGKILL)

    def test_collectives(self):
        print("said by", self.rank)
        print("complained of by", self.rank, file=sys.stderr)
        self.init_process_group()
        x = torch.ones(4, 2)
        dist.all_reduce(x)
        dist.broadcast(x, 0)
        dist.barrier()

    def test_subgroup(self):
        self.init_process_group()
        pair = dist.new_group([0, 1], group_desc="pair")
        if self.rank < 2:
            dist.all_reduce(torch.ones(1), group=pair)
        dist.barrier()

    def test_desync(self):
        self.init_process_group()
        dist.barrier()
        if self.is_last:
            dist.broadcast(torch.ones(3), 0)
        else:
            dist.all_reduce(torch.ones(3))

    @timeout(1)
    def test_hangs(self):
        if self.is_last:
            threading.Event().wait()

    def test_killed(self):
        self.init_process_group()
        dist.barrier()
        if self.is_last:
            os.kill(os.getpid(), signal.SIGKILL)
        dist.barrier()

    def test_dies_in_set_up(self):
        """See `perRankSetUp`."""

    def test_fails(self):
        self.assertFalse(self.is_last, "the last rank is not pleased")

    def test_skips(self):
        self.skipTest("not today")

    def test_floods(self):
        for number in range(FLOOD_LINES):
            print("line", number)

    def test_floods_and_fails(self):
        self.test_floods()
        self.fail("after a flood")

    def test_interrupts(self):
        self.assertRanksAgree("the parent, which brings them together, watches them")
        if self.is_last:
            os.kill(int(os.environ["SAMPLE_PARENT"]), signal.SIGINT)
        threading.Event().wait()


class Waiting(MultiProcessTestCase):
    """The last rank waits until it is told to go on, through a pipe; the others for it."""

    world_size = 2

    def wait_until_told(self):
        if self.rank == self.world_size - 1:
            with open(os.environ["SAMPLE_GO"]) as pipe:
                pipe.readline()

    def perRankSetUp(self):
        if self._testMethodName == "test_in_set_up":
            self.wait_until_told()

    def perRankTearDown(self):
        if self._testMethodName == "test_in_tear_down":
            self.wait_until_told()

    def test_in_set_up(self):
        pass

    def test_in_tear_down(self):
        pass

    def test_in_a_collective(self):
        self.init_process_group()
        self.wait_until_told()
        dist.all_reduce(torch.ones(2))

    def test_in_recv(self):
        self.init_process_group()
        self.wait_until_told()
        if self.rank == 0:
            dist.recv(torch.ones(2), 1)
        else:
            dist.send(torch.ones(2), 0)

    def test_in_a_rendezvous(self):
        self.wait_until_told()
        self.init_process_group()

    def test_in_a_meeting(self):
        self.wait_until_told()
        self.assertRanksAgree(3)


class OnThreads(MultiThreadedTestCase):
    world_size = 2

    def setUp(self):
        super().setUp()
        self._spawn_threads()

    def test_collectives(self):
        dist.all_reduce(torch.ones(4, 2))
        dist.barrier()

    def test_waits(self):
        if self.rank == self.world_size - 1:
            GO.wait()
        dist.all_reduce(torch.ones(2))

    def test_fails(self):
        self.assertEqual(self.rank, 0)
        dist.barrier()

    def test_deadlock(self):
        if self.rank == 0:
            dist.barrier()

    def test_skips(self):
        self.skipTest("not today")


class Alone(unittest.TestCase):
    """Without ranks."""

    def test_waits(self):
        with open(os.environ["SAMPLE_GO"]) as pipe:
            pipe.readline()
