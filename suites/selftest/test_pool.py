"""`WorldPool`: which world a test gets, and what becomes of it afterwards."""

from __future__ import annotations

import atexit
import itertools
import os
import unittest
import warnings
from dataclasses import replace
from types import SimpleNamespace
from unittest import mock

from harness.model.errors import WorldExitWarning
from harness.model.spec import GROUP, NONE, PROCESS, LaunchSpec
from harness.model.surroundings import Surroundings
from harness.ranks import pool as pools
from harness.ranks.pool import WorldPool
from suites.selftest.fake_ranks import FakeWorld

HOST = "127.0.0.7"

HERE = Surroundings({"HOME": "/home/x", "TMPDIR": "/tmp/1"}, "/", ("",), ("x",))
SPEC = LaunchSpec(
    test_id="test_x.TestX.test_it",
    module="test_x",
    qualname="TestX",
    method="test_it",
    world_size=2,
    file_name="",
    folder="/nonexistent/test",
    world_folder="",
    surroundings=HERE,
    threads=1,
    timeout_s=5.0,
    isolation=GROUP,
)


class PoolTestCase(unittest.TestCase):
    def setUp(self):
        self.pool = WorldPool()
        self.addCleanup(self.end_pool)
        self.started: list[tuple[LaunchSpec, FakeWorld]] = []
        self.hosts: list[str] = []
        self.ports = itertools.count(7001)
        self.enterContext(mock.patch.object(pools, "serve", self.serve))

    def end_pool(self):
        atexit.unregister(self.pool.close)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", WorldExitWarning)
            self.pool.close()

    def serve(self, host):
        self.hosts.append(host)
        return SimpleNamespace(port=next(self.ports))

    def start(self, spec):
        world = FakeWorld(spec.world_size, spec.world_folder)
        self.started.append((spec, world))
        return world

    def lease(self, start=None, **changes):
        spec = replace(SPEC, **changes)
        return self.pool.lease(spec, start or self.start, HOST, lambda: "/nonexistent/fresh")

    def end(self, lease, is_idle=True, is_clean=True):
        """End a test, as the supervisor leaves its world."""
        lease.world.is_idle, lease.world.is_clean = is_idle, is_clean
        lease.end()

    def run_test(self, **changes):
        """Run a test to a good end; returns its world."""
        lease = self.lease(**changes)
        self.end(lease)
        return lease.world


class TestFreshWorlds(PoolTestCase):
    def test_one_for_each_test(self):
        lease = self.lease(isolation=PROCESS)
        ((spec, world),) = self.started
        self.assertIs(lease.world, world)
        self.assertFalse(lease.stays)
        self.assertEqual((spec.world_folder, spec.store_port), ("/nonexistent/fresh", 0))
        self.assertEqual(self.hosts, [])
        self.end(lease)
        self.assertEqual(world.killed, [0, 1])
        self.assertTrue(world.is_closed)
        self.assertIsNot(self.run_test(isolation=PROCESS), world)

    def test_one_for_the_examples_of_a_test(self):
        lease = self.lease(isolation=PROCESS, has_examples=True)
        ((spec, world),) = self.started
        self.assertFalse(lease.stays)
        self.assertEqual((spec.store_port, self.hosts), (7001, [HOST]))
        world.awaits_example = True
        lease.end()
        self.assertTrue(world.was_asked_to_exit and world.is_closed)
        self.assertEqual(world.killed, [])
        self.assertFalse(os.path.exists(spec.world_folder))

    def test_the_examples_end_in_a_fault(self):
        lease = self.lease(isolation=PROCESS, has_examples=True)
        lease.end()
        self.assertFalse(lease.world.was_asked_to_exit)
        self.assertEqual(lease.world.killed, [0, 1])
        self.assertTrue(lease.world.is_closed)


class TestStayingWorlds(PoolTestCase):
    def test_the_next_test_gets_the_world_of_the_last_one(self):
        first = self.lease()
        self.assertTrue(first.stays)
        ((spec, world),) = self.started
        self.assertEqual(spec.store_port, 7001)
        self.assertTrue(os.path.isdir(spec.world_folder))
        self.end(first)
        second = self.lease(test_id="test_x.TestX.test_more", isolation=NONE)
        self.assertIs(second.world, world)
        (ran,) = world.ran
        self.assertEqual(ran.test_id, "test_x.TestX.test_more")
        self.assertEqual((ran.world_folder, ran.store_port), (spec.world_folder, 7001))
        self.assertEqual((world.killed, world.was_asked_to_exit), ([], False))

    def test_only_in_the_same_surroundings(self):
        world = self.run_test()
        for changes in (
            {"world_size": 3},
            {"threads": 2},
            {"surroundings": replace(HERE, argv=("y",))},
            {"surroundings": replace(HERE, sys_path=("", "/lib"))},
            {"surroundings": replace(HERE, environ={**HERE.environ, "HOME": "/home/y"})},
            {"node_sizes": (1, 1)},
        ):
            with self.subTest(changes=changes):
                self.assertIsNot(self.lease(**changes).world, world)

    def test_what_each_rank_applies_anew_does_not_matter(self):
        world = self.run_test()
        environ = {**HERE.environ, "TMPDIR": "/tmp/2", "PYTEST_CURRENT_TEST": "it"}
        there = replace(HERE, environ=environ, cwd="/tmp")
        lease = self.lease(surroundings=there, qualname="TestY", timeout_s=9.0)
        self.assertIs(lease.world, world)

    def test_a_world_in_use_is_not_lent_again(self):
        self.assertIsNot(self.lease().world, self.lease().world)

    def test_nor_is_one_in_use_that_was_idle_before(self):
        world = self.run_test()
        self.assertIs(self.lease().world, world)
        self.assertIsNot(self.lease().world, world)
        self.assertFalse(world.is_closed)

    def test_the_one_used_last_comes_first(self):
        first, second = self.lease(), self.lease()
        self.end(second)
        self.end(first)
        self.assertIs(self.lease().world, first.world)
        self.assertIs(self.lease().world, second.world)

    def test_one_that_may_not_run_another_test_ends(self):
        def dies(world):
            world.handles[1].exit(0)

        for name, state, spoil in (
            ("not idle", {"is_idle": False}, None),
            ("not clean", {"is_clean": False}, None),
            ("a rank has died", {}, dies),
        ):
            with self.subTest(name):
                lease = self.lease()
                if spoil is not None:
                    spoil(lease.world)
                self.end(lease, **state)
                self.assertTrue(lease.world.is_closed)
                self.assertEqual(lease.world.living(), [])
                self.assertFalse(os.path.exists(lease.world.folder))
                self.assertIsNot(self.lease().world, lease.world)
                self.pool.close()

    def test_one_that_dies_between_two_tests_ends(self):
        world = self.run_test()
        world.handles[0].exit(-9)
        with self.assertWarns(WorldExitWarning):
            lease = self.lease()
        self.assertIsNot(lease.world, world)
        self.assertTrue(world.is_closed)

    def test_one_that_has_run_its_share_of_tests_ends(self):
        with mock.patch.dict(os.environ, HARNESS_WORLD_TESTS="3"):
            worlds = [self.run_test() for _ in range(4)]
        self.assertEqual(len({*worlds[:3]}), 1)
        self.assertTrue(worlds[0].was_asked_to_exit and worlds[0].is_closed)
        self.assertIsNot(worlds[3], worlds[0])

    def test_a_world_that_cannot_start_leaves_nothing(self):
        made = []

        def start(spec):
            self.assertTrue(os.path.isdir(spec.world_folder))
            made.append(spec.world_folder)
            raise OSError("no more processes")

        with self.assertRaisesRegex(OSError, "no more processes"):
            self.lease(start=start)
        self.assertFalse(os.path.exists(made[0]))
        self.run_test()


class TestTooManyIdle(PoolTestCase):
    def test_of_many_worlds_the_oldest_ends(self):
        worlds = [self.run_test(world_size=size) for size in (1, 2, 3, 4)]
        self.assertFalse(any(world.is_closed for world in worlds))
        worlds.append(self.run_test(world_size=5))
        self.assertEqual([world.is_closed for world in worlds], [True, *[False] * 4])

    def test_of_many_ranks_the_oldest_end(self):
        worlds = [self.run_test(world_size=size) for size in (10, 12, 11)]
        self.assertEqual([world.is_closed for world in worlds], [True, False, False])

    def test_a_single_world_may_have_any_size(self):
        world = self.run_test(world_size=40)
        self.assertFalse(world.is_closed)
        self.assertIs(self.run_test(world_size=40), world)


class TestTheEnd(PoolTestCase):
    def test_idle_ranks_leave_and_others_are_killed(self):
        busy, idle = self.lease(), self.run_test()
        self.pool.close()
        self.assertTrue(idle.was_asked_to_exit)
        self.assertEqual(idle.killed, [])
        self.assertEqual(busy.world.killed, [0, 1])
        self.assertTrue(idle.is_closed and busy.world.is_closed)
        self.assertFalse(any(os.path.exists(world.folder) for world in (idle, busy.world)))

    def test_it_is_not_the_business_of_a_fork(self):
        world = self.run_test()
        with mock.patch.object(pools.os, "getpid", return_value=self.pool.pid + 1):
            self.pool.close()
        self.assertFalse(world.was_asked_to_exit or world.is_closed)
        self.pool.close()
        self.assertTrue(world.is_closed)

    def test_a_fork_has_a_pool_of_its_own(self):
        self.addCleanup(pools._pool_of.cache_clear)
        mine = pools.pool()
        self.assertIs(pools.pool(), mine)
        with mock.patch.object(pools.os, "getpid", return_value=mine.pid + 1):
            self.assertIsNot(pools.pool(), mine)

    def test_ranks_that_do_not_end_well_are_told(self):
        world = self.run_test()
        self.run_test(test_id="test_x.TestX.test_last")
        world.odd_exits = {1: 3}
        world.leftovers = ["rank 0 left sleep 60 running"]
        with self.assertWarns(WorldExitWarning) as caught:
            self.pool.close()
        self.assertEqual(
            str(caught.warning),
            "rank 1 exited with code 3; rank 0 left sleep 60 running (a reused world, after 2 "
            "tests; the last was test_x.TestX.test_last)",
        )

    def test_of_ranks_that_end_well_nothing_is_told(self):
        self.run_test()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            self.pool.close()
