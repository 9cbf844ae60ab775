"""Tests whose body does not run when they are called, in every class and under every decorator.

In each, what must not pass is called `test_…`; the message must have the text in `SAID`.
"""

from __future__ import annotations

import asyncio
import unittest

from hypothesis import given
from hypothesis import strategies as st
from torch.testing._internal import common_utils as torchs

from harness import (
    DistributedTestBase,
    MultiProcContinuousTest,
    MultiProcessTestCase,
    MultiThreadedTestCase,
    TestCase,
    instantiate_parametrized_tests,
    parametrize,
    run_on_ranks,
    spawn_threads_and_init_comms,
)
from harness.common_distributed import run_subtests

COROUTINE, GENERATOR = "returned a coroutine", "returned a generator"
ASYNC_GENERATOR, AWAITABLE = "returned an asynchronous generator", "returned an awaitable (Later)"

#: By name of the test: what the report must say.
SAID = {
    "test_coroutine": COROUTINE,
    "test_generator": GENERATOR,
    "test_async_generator": ASYNC_GENERATOR,
    "test_awaitable": AWAITABLE,
    "test_is_no_expected_failure": COROUTINE,
}


class Later:
    def __await__(self):
        raise AssertionError


class Bodies:
    """Bodies that do not run."""

    world_size = 2

    async def test_coroutine(self):
        self.fail("this does not run")

    def test_generator(self):
        self.fail("this does not run")
        yield

    async def test_async_generator(self):
        self.fail("this does not run")
        yield

    def test_awaitable(self):
        return Later()

    @unittest.expectedFailure
    async def test_is_no_expected_failure(self):
        self.fail("this does not run")


class Plain(Bodies, TestCase):
    pass


class Processes(Bodies, MultiProcessTestCase):
    pass


class Threads(Bodies, MultiThreadedTestCase):
    pass


class Continuous(Bodies, MultiProcContinuousTest):
    @classmethod
    def backend_str(cls):
        return "gloo"


class Based(Bodies, DistributedTestBase):
    pass


class Fixtures:
    """What runs around a test."""

    world_size = 2

    def test_set_up(self):
        pass


class AsyncSetUp(Fixtures, MultiProcessTestCase):
    async def setUp(self):
        raise AssertionError


class GeneratorTearDown(Fixtures, TestCase):
    def tearDown(self):
        yield


class AsyncRankSetUp(Fixtures, MultiProcessTestCase):
    async def perRankSetUp(self):
        raise AssertionError


class GeneratorRankTearDown(Fixtures, MultiProcessTestCase):
    def perRankTearDown(self):
        yield


class AsyncThreadSetUp(Fixtures, MultiThreadedTestCase):
    async def perThreadSetUp(self):
        raise AssertionError


FIXTURES = {
    AsyncSetUp: "AsyncSetUp.setUp() returned a coroutine",
    GeneratorTearDown: "GeneratorTearDown.tearDown() returned a generator",
    AsyncRankSetUp: "AsyncRankSetUp.perRankSetUp() returned a coroutine",
    GeneratorRankTearDown: "GeneratorRankTearDown.perRankTearDown() returned a generator",
    AsyncThreadSetUp: "AsyncThreadSetUp.perThreadSetUp() returned a coroutine",
}


async def body():
    raise AssertionError


@instantiate_parametrized_tests
class Decorated(MultiProcessTestCase):
    world_size = 2

    @parametrize("x", [1])
    async def test_parametrized(self, x):
        raise AssertionError

    def test_run_subtests(self):
        run_subtests(self, {"x": [1]}, self.check)

    async def check(self, x):
        raise AssertionError

    @given(x=st.integers())
    def test_given_that_yields(self, x):
        raise AssertionError
        yield

    @given(x=st.integers())
    async def test_given(self, x):
        raise AssertionError


@torchs.instantiate_parametrized_tests
class ByTorchs(MultiProcessTestCase):
    """PyTorch's decorators drop what a test returns."""

    world_size = 2

    @torchs.parametrize("x", [1])
    async def test_parametrized(self, x):
        raise AssertionError


class OnThreads(TestCase):
    @spawn_threads_and_init_comms(world_size=2)
    async def test_threads(self):
        raise AssertionError

    def test_on_ranks(self):
        run_on_ranks(body, world_size=2)


class Fine(MultiProcessTestCase):
    """What must pass."""

    world_size = 2

    def test_runs_a_coroutine(self):
        async def answer():
            return 42

        self.assertEqual(asyncio.run(answer()), 42)

    def test_returns_a_value(self):
        return 1
