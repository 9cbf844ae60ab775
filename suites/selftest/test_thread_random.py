"""Thread ranks draw from generators of their own, as processes do, and leave no trace of it."""

from __future__ import annotations

import copy
import json
import os
import pickle
import random
import threading
import types
import unittest
from unittest import mock

import numpy as np
import torch

from harness.cases.seeding import set_rng_seed
from harness.ranks.threads import generators, torch_draws
from suites.samples import draws
from suites.samples import thread_random as samples
from suites.selftest.support import InProcess, run_case

# Marked as drawing, with a kernel for the CPU that takes no generator: made of others that do, or
# only telling which kernel is to be used.
MADE_OF_OTHERS = {
    "aten::native_dropout",
    "aten::_scaled_dot_product_flash_attention_for_cpu",
    "aten::_fused_sdp_choice",
}


def plumbing():
    """What a world of threads puts something else in the place of."""
    return {
        "torch": type(torch),
        "torch.default_generator": torch.default_generator,
        "torch.random": torch.random.default_generator,
        "random": type(random._inst),
        **{name: getattr(random, name) for name in ("random", "getrandbits", "seed", "getstate")},
        **{f"np.random.{name}": value for name, value in vars(np.random).items()},
        "np.random.mtrand": np.random.mtrand._rand,
        "Thread.start": threading.Thread.start,
    }


def states():
    kind, keys, *rest = np.random.get_state()
    return torch.get_rng_state().tolist(), random.getstate(), (kind, keys.tolist(), *rest)


class TestRanks(InProcess):
    def test_all(self):
        for cls in (
            samples.OfThreads,
            samples.WithADrawingParent,
            samples.DrawingBefore,
            samples.Decorated,
        ):
            for name in unittest.defaultTestLoader.getTestCaseNames(cls):
                with self.subTest(f"{cls.__name__}.{name}"):
                    result = run_case(cls, name)
                    self.assertEqual(result.status, "passed", result.text)

    def test_the_same_numbers_as_in_processes(self):
        for seed in ("1234", "5"):
            found = self.passes(samples.OfProcesses, "test_draw_all", HARNESS_SEED=seed)
            processes = [json.loads(text) for text in found]
            self.assertEqual(processes[0], processes[1])
            samples.OfThreads.drawn.clear()
            with mock.patch.dict(os.environ, HARNESS_SEED=seed):
                result = run_case(samples.OfThreads, "test_draw_all")
            self.assertEqual(result.status, "passed", result.text)
            self.assertEqual(sorted(samples.OfThreads.drawn), [0, 1, 2])
            for rank, drawn in samples.OfThreads.drawn.items():
                for name in draws.DRAWS:
                    self.assertEqual(drawn[name], processes[0][name], f"{name} on rank {rank}")


class TestAfterwards(unittest.TestCase):
    def setUp(self):
        run_case(samples.OfThreads, "test_fork")  # what is cached is there
        self.before = plumbing()

    def test_the_parents_generators_have_not_moved(self):
        set_rng_seed()
        seeded = states()
        for name in ("test_draw_all", "test_a_random_seed_for_one", "test_threads_of_a_rank"):
            self.assertEqual(run_case(samples.OfThreads, name).status, "passed")
            self.assertEqual(states(), seeded)

    def test_nothing_is_left(self):
        self.assertEqual(run_case(samples.OfThreads, "test_draw_all").status, "passed")
        self.assert_as_before()

    def test_nothing_is_left_by_a_rank_that_fails(self):
        set_rng_seed()
        seeded = states()
        result = run_case(samples.Faulty, "test_fails_while_drawing")
        self.assertEqual(result.status, "error")
        self.assertIn("rank 1: RuntimeError: probability tensor contains", result.text)
        self.assert_as_before()
        self.assertEqual(states(), seeded)
        self.assertEqual(run_case(samples.OfThreads, "test_in_turns").status, "passed")

    def assert_as_before(self):
        after = plumbing()
        self.assertEqual(after.keys(), self.before.keys())
        for name, value in self.before.items():
            if name.startswith("np.random.") or name == "torch":
                self.assertIs(after[name], value, name)
            else:
                self.assertEqual(after[name], value, name)
        self.assertIs(type(torch), types.ModuleType)
        self.assertIs(type(random._inst), random.Random)

    def test_functions_that_a_rank_has_bound(self):
        self.assertEqual(run_case(samples.Keeping, "test_keep").status, "passed")
        kept = samples.Keeping.kept
        set_rng_seed()
        alone = samples.Alone()
        self.assertEqual(kept["random"](), alone.python.random())
        self.assertEqual(kept["getrandbits"](9), alone.python.getrandbits(9))
        self.assertEqual(kept["getstate"](), alone.python.getstate())
        self.assertEqual(kept["rand"](), alone.numpy.rand())
        kept["seed"](3)
        self.assertEqual(random.random(), random.Random(3).random())


class TestOverlap(unittest.TestCase):
    """Worlds may begin and end in any order."""

    def test_first_in_first_out(self):
        before = plumbing()
        first, second = generators.by_thread(), generators.by_thread()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        self.assertIsNot(type(random._inst), random.Random)
        with generators.RankGenerators(5).in_use():
            self.assertEqual(samples.numbers(), samples.Alone(5).numbers())
        second.__exit__(None, None, None)
        self.assertEqual(plumbing(), before)

    def test_copies(self):
        with generators.by_thread(), generators.RankGenerators(5).in_use():
            for copied in (copy.copy(random._inst), pickle.loads(pickle.dumps(random.randint))):
                self.assertIs(type(getattr(copied, "__self__", copied)), random.Random)
            self.assertIs(pickle.loads(pickle.dumps(torch)), torch)


class TestOperators(unittest.TestCase):
    def test_all_that_torch_marks_as_drawing(self):
        known = {op.name().removesuffix(".default") for op, _ in torch_draws.operators_that_draw()}
        self.assertGreater(len(known), 20)
        marked = set()
        for name in torch._C._dispatch_get_registrations_for_dispatch_key("CPU"):
            packet, _, overload = name.partition(".")
            if packet.startswith("aten::"):
                op = getattr(getattr(torch.ops.aten, packet[6:]), overload or "default")
                if torch.Tag.nondeterministic_seeded in op.tags:
                    marked.add(name)
        self.assertEqual(marked - known, MADE_OF_OTHERS)
        self.assertEqual(known - marked, set())
