"""Rank tests for worlds that torchrun has started, each showing one thing; some go wrong."""

from __future__ import annotations

import ctypes
import os
import signal
import time
import unittest
from pathlib import Path

import torch
import torch.distributed as dist

from harness import (
    DistributedTestBase,
    MultiProcContinuousTest,
    MultiProcessTestCase,
    MultiThreadedTestCase,
    isolation,
    nodes,
    run_on_ranks,
    timeout,
)


def sum_of_ones() -> float:
    x = torch.ones(1)
    dist.all_reduce(x)
    return x.item()


class TestSound(MultiProcessTestCase):
    """Passes on two of torchrun's processes or more."""

    world_size = 2

    def test_own_store(self):
        self.init_process_group()
        self.assertEqual(sum_of_ones(), 2)

    def test_by_the_environment(self):
        dist.init_process_group("gloo")
        self.assertEqual(sum_of_ones(), 2)

    def test_variables(self):
        told = [os.environ[name] for name in ("RANK", "WORLD_SIZE", "GROUP_WORLD_SIZE")]
        self.assertEqual(told[:2], [str(self.rank), "2"])
        self.assertLess(int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"]))

    def test_fresh_process(self):
        self.assertFalse(hasattr(torch, "left_by_the_other"))
        torch.left_by_the_other = True

    def test_fresh_process_again(self):
        self.assertFalse(hasattr(torch, "left_by_the_other"))
        torch.left_by_the_other = True

    def test_from_set_up(self):
        self.assertEqual(os.environ["FROM_SET_UP"], self._testMethodName)

    def test_values_of_all(self):
        self.assertEqualOnAllRanks(self.rank // 2, 0)
        self.assertRanksAgree(torch.ones(3))

    @nodes(2)
    def test_nodes(self):
        self.assertEqual(os.environ["GROUP_RANK"], str(self.rank))
        self.assertEqual(os.environ["LOCAL_RANK"], "0")

    def test_meant_to_exit(self):
        os._exit(3)

    def setUp(self):
        super().setUp()
        os.environ["FROM_SET_UP"] = self._testMethodName
        self.addCleanup(os.environ.pop, "FROM_SET_UP")
        if self._testMethodName == "test_meant_to_exit":
            meant = self.test_meant_to_exit.__wrapped__
            self.special_return_code_checks = {meant: 3}


class TestStaying(MultiProcessTestCase):
    """Ranks that stay, and a process group that each test brings up or that is kept."""

    world_size = 2

    @isolation("group")
    def test_group_1(self):
        dist.init_process_group("gloo")
        self.assertEqual(sum_of_ones(), 2)

    @isolation("group")
    def test_group_2(self):
        dist.init_process_group("gloo")
        self.assertEqual(sum_of_ones(), 2)

    @isolation("none")
    def test_none_1(self):
        self.init_process_group()
        self.assertEqual(sum_of_ones(), 2)

    @isolation("none")
    def test_none_2(self):
        self.init_process_group()
        group = dist.new_group([0, 1])
        dist.barrier(group)
        dist.destroy_process_group(group)


class TestContinuous(MultiProcContinuousTest):
    world_size = 2

    @classmethod
    def backend_str(cls):
        return "gloo"

    def test_first(self):
        self.assertEqual(sum_of_ones(), 2)

    def test_second(self):
        self.assertEqual(sum_of_ones(), 2)


class TestBase(DistributedTestBase):
    world_size = 2

    def test_group_of_the_device(self):
        self.create_pg("cpu")
        self.assertEqual(sum_of_ones(), 2)


class TestSizes(MultiProcessTestCase):
    """One rank fewer and more than there may be."""

    world_size = 1

    def test_alone(self):
        self.init_process_group()
        self.assertEqual(sum_of_ones(), 1)


class TestTooLarge(MultiProcessTestCase):
    world_size = 64

    def test_never_runs(self):
        raise AssertionError("it ran")


class TestWithoutRanks(unittest.TestCase):
    def test_on_rank_0_only(self):
        Path(os.environ["SAMPLE_OUT"], f"plain-{os.getpid()}").touch()

    def test_starts_ranks_itself(self):
        self.assertEqual(run_on_ranks(lambda: dist.get_rank(), 3), [0, 1, 2])


class TestThreads(MultiThreadedTestCase):
    world_size = 3

    def setUp(self):
        super().setUp()
        self._spawn_threads()

    def test_threads(self):
        self.assertEqual(sum_of_ones(), 3)


class Last(MultiProcessTestCase):
    """As many ranks as there are, by the variable that the self-test sets; the last goes wrong."""

    world_size = int(os.environ.get("SAMPLE_RANKS", "2"))

    @property
    def is_last(self) -> bool:
        return self.rank == self.world_size - 1

    def come_up(self) -> None:
        """Say that this rank is in its test, for whoever is about to do something to it."""
        Path(os.environ["SAMPLE_OUT"], f"up{self.rank}").write_text(str(os.getpid()))


class TestFaults(Last):
    def test_1_fails(self):
        print(f"rank {self.rank} says this")
        self.assertFalse(self.is_last)

    def test_2_is_killed(self):
        self.init_process_group()
        if self.is_last:
            os.kill(os.getpid(), signal.SIGKILL)
        dist.barrier()

    def test_3_exits(self):
        if self.is_last:
            os._exit(7)

    def test_4_skips_alone(self):
        if self.is_last:
            self.skipTest("not here")

    @timeout(3)
    def test_5_hangs_with_the_gil(self):
        self.init_process_group()
        if self.is_last:
            ctypes.PyDLL(None).sleep(60)
        dist.barrier()

    @timeout(4)
    def test_6_never_comes(self):
        self.init_process_group()
        if not self.is_last:
            dist.barrier()
        time.sleep(60)

    def test_7_floods(self):
        for _ in range(20_000):
            print("x" * 99)
        self.assertFalse(self.is_last)

    def test_8_passes(self):
        self.init_process_group()
        self.assertEqual(sum_of_ones(), self.world_size)


class TestInterrupted(Last):
    """The middle one goes on until something is done to its world."""

    def test_1_before(self):
        self.init_process_group()
        self.assertEqual(sum_of_ones(), self.world_size)

    @timeout(120)
    def test_2_during(self):
        self.init_process_group()
        self.come_up()
        while True:
            dist.all_reduce(torch.ones(1))
            time.sleep(0.02)

    def test_3_after(self):
        self.init_process_group()
        self.assertEqual(sum_of_ones(), self.world_size)
