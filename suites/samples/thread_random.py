"""Tests whose ranks draw random numbers: as threads, each from generators of its own."""

from __future__ import annotations

import json
import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import default_generator as bound_before
from torch import nn

from harness import MultiProcessTestCase, TestCase
from harness.common_distributed import MultiThreadedTestCase, spawn_threads_and_init_comms
from harness.model import settings
from suites.samples.draws import draw_all

LIMIT_S = 20


class Alone:
    """Generators that nobody else can move: what a rank with this seed must draw."""

    def __init__(self, seed: int | None = None) -> None:
        seed = settings.SEED.value() if seed is None else seed
        self.torch = torch.Generator().manual_seed(seed)
        self.python = random.Random(seed)
        self.numpy = np.random.RandomState(seed)

    def numbers(self) -> list[float]:
        return [
            torch.rand((), generator=self.torch).item(),
            torch.empty(()).normal_(generator=self.torch).item(),
            self.python.random(),
            self.python.gauss(0, 1),
            self.python.randrange(10**6),
            self.numpy.random_sample(),
            self.numpy.randn(),
            self.numpy.randint(10**6),
        ]


def numbers() -> list[float]:
    """As `Alone.numbers`, from the generators that one gets without asking."""
    return [
        torch.rand(()).item(),
        torch.empty(()).normal_().item(),
        random.random(),
        random.gauss(0, 1),
        random.randrange(10**6),
        np.random.random_sample(),
        np.random.randn(),
        np.random.randint(10**6),
    ]


class OfProcesses(MultiProcessTestCase):
    world_size = 2

    def test_draw_all(self):
        text = json.dumps(draw_all())
        Path(os.environ["SAMPLE_OUT"], f"rank{self.rank}").write_text(text)


class OfThreads(MultiThreadedTestCase):
    world_size = 3

    # By rank; for the self-test.
    drawn = {}

    def draws_as(self, alone):
        self.assertEqual(numbers(), alone.numbers())

    def test_draw_all(self):
        self.drawn[self.rank] = draw_all()

    def test_in_turns(self):
        alone = Alone()
        for turn in range(9):
            for _ in range((turn + self.rank) % 3):
                self.draws_as(alone)
            dist.barrier()
        self.draws_as(alone)

    def test_at_once(self):
        alone = Alone()
        for _ in range(200):
            self.draws_as(alone)

    def test_one_draws_more(self):
        if self.rank == 1:
            draw_all()
        dist.barrier()
        if self.rank != 1:
            self.draws_as(Alone())

    def test_a_seed_for_each(self):
        self.assertEqual(torch.initial_seed(), settings.SEED.value())
        for seed in (self.rank, 7):
            self.assertEqual(torch.manual_seed(seed).initial_seed(), seed)
            random.seed(seed)
            np.random.seed(seed)
            dist.barrier()
            self.assertEqual(torch.initial_seed(), seed)
            self.draws_as(Alone(seed))
            dist.barrier()
        self.assertEqual(torch.random.manual_seed(self.rank).initial_seed(), self.rank)
        dist.barrier()
        self.assertEqual(torch.rand(()), torch.rand((), generator=Alone(self.rank).torch))

    def test_a_random_seed_for_one(self):
        alone = Alone()
        if self.rank == 0:
            seed = torch.seed()
            random.seed()
            np.random.seed()
            self.assertEqual(torch.initial_seed(), seed)
        dist.barrier()
        if self.rank != 0:
            self.draws_as(alone)

    def test_states(self):
        for _ in range(self.rank):
            numbers()
        states = torch.get_rng_state(), random.getstate(), np.random.get_state()
        dist.barrier()
        first = [numbers(), numbers()]
        dist.barrier()
        torch.set_rng_state(states[0])
        random.setstate(states[1])
        np.random.set_state(states[2])
        dist.barrier()
        self.assertEqual([numbers(), numbers()], first)

    def test_fork(self):
        alone = Alone()
        with torch.random.fork_rng():
            torch.manual_seed(self.rank)
            dist.barrier()
            torch.rand(self.rank)
        dist.barrier()
        self.draws_as(alone)

    def test_default_generator(self):
        default = torch.default_generator
        default.manual_seed(self.rank)
        dist.barrier()
        found = [torch.rand((), generator=each).item() for each in (None, default, bound_before)]
        alone = Alone(self.rank).torch
        self.assertEqual(found, [torch.rand((), generator=alone).item() for _ in range(3)])

    def test_a_generator_of_the_tests_own(self):
        own = torch.Generator().manual_seed(self.rank)
        torch.rand(9, generator=own)
        random.Random(self.rank).random()
        np.random.RandomState(self.rank).rand()
        self.draws_as(Alone())

    def test_other_devices(self):
        with torch.device("meta"):
            nn.Dropout()(torch.rand(3))
        self.draws_as(Alone())

    def test_threads_of_a_rank(self):
        alone = Alone()
        with ThreadPoolExecutor(1) as pool:
            for _ in range(3):
                self.assertEqual(pool.submit(numbers).result(LIMIT_S), alone.numbers())
                dist.barrier()
        self.draws_as(alone)

    def test_faults_while_drawing(self):
        for wrong in (
            lambda: torch.normal(0.0, -1.0, (2,)),
            lambda: torch.multinomial(-torch.ones(2), 1),
            lambda: random.choice([]),
            lambda: np.random.rand(-1),
        ):
            if self.rank != 1:
                with self.assertRaises((RuntimeError, IndexError, ValueError)):
                    wrong()
            dist.barrier()
        if self.rank == 1:
            self.draws_as(Alone())


class WithADrawingParent(MultiThreadedTestCase):
    """The parent draws while its ranks do."""

    world_size = 2
    both = threading.Barrier(3)

    def setUp(self):
        super().setUp()
        self.alone = Alone()
        self.draws_as(self.alone)
        self._spawn_threads()
        for _ in range(5):
            self.both.wait(LIMIT_S)
            self.draws_as(self.alone)
            default = torch.rand((), generator=torch.default_generator)
            self.assertEqual(default, torch.rand((), generator=self.alone.torch))

    def tearDown(self):
        super().tearDown()
        self.draws_as(self.alone)

    def draws_as(self, alone):
        self.assertEqual(numbers(), alone.numbers())

    def test_meanwhile(self):
        alone = Alone()
        for seed in range(5):
            self.both.wait(LIMIT_S)
            self.draws_as(alone)
            torch.manual_seed(seed + self.rank)
            random.seed(seed + self.rank)
            np.random.seed(seed + self.rank)
            alone = Alone(seed + self.rank)


class DrawingBefore(MultiThreadedTestCase):
    world_size = 2

    @classmethod
    def _run(cls, test_name, rank, world_size, **kwargs):
        for _ in range(rank):
            numbers()
        super()._run(test_name, rank, world_size, **kwargs)

    def perThreadSetUp(self):
        self.found = numbers()

    def test_is_seeded_afterwards(self):
        self.assertEqual(self.found, Alone().numbers())


class Faulty(MultiThreadedTestCase):
    world_size = 2

    def test_fails_while_drawing(self):
        numbers()
        dist.barrier()
        if self.rank == 1:
            torch.multinomial(-torch.ones(2), 1)
        dist.barrier()


class Decorated(TestCase):
    @spawn_threads_and_init_comms(world_size=3)
    def test_method(self):
        self.assertEqual(numbers(), Alone().numbers())

    def test_inner_functions(self):
        @spawn_threads_and_init_comms(world_size=2)
        def inner(self):
            self.assertEqual(numbers(), Alone().numbers())
            dist.barrier()

        alone = Alone()
        for _ in range(2):
            self.assertEqual(numbers(), alone.numbers())
            inner(self)


class Keeping(MultiThreadedTestCase):
    """Functions that a rank has bound, for use when its world is gone."""

    world_size = 1
    kept = {}

    def test_keep(self):
        from random import getrandbits, getstate, random, seed

        from numpy.random import rand

        self.kept.update(getrandbits=getrandbits, getstate=getstate, random=random, seed=seed)
        self.kept.update(rand=rand)
