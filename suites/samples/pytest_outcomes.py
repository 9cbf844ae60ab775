"""Tests that end by pytest's own means in their ranks."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import (
    MultiProcContinuousTest,
    MultiProcessTestCase,
    MultiThreadedTestCase,
    TestCase,
    spawn_threads_and_init_comms,
)


class Bodies:
    world_size = 2

    def test_skip(self):
        pytest.skip("not today")

    def test_importorskip(self):
        pytest.importorskip("a_module_that_is_not_there")

    def test_xfail(self):
        pytest.xfail("known bug")

    def test_fail(self):
        pytest.fail("on purpose")

    def test_raises(self):
        with pytest.raises(KeyError):
            pass

    def test_passes(self):
        with pytest.raises(KeyError):
            raise KeyError

    def test_one_skips(self):
        if self.rank == 1:
            pytest.skip("not me")

    def test_one_xfails(self):
        if self.rank == 1:
            pytest.xfail("only me")
        pytest.skip("not me")

    def test_subtests(self):
        with self.subTest(x=1):
            pytest.skip("not this one")
        with self.subTest(x=2):
            pytest.fail("but that one")

    @settings(max_examples=3)
    @given(x=st.integers())
    def test_skip_given(self, x):
        pytest.skip("no examples")

    @settings(max_examples=3)
    @given(x=st.integers())
    def test_xfail_given(self, x):
        pytest.xfail("no examples")


#: What unittest calls each of them, and what it says.
STATUS = {
    "test_skip": ("skipped", "not today"),
    "test_importorskip": ("skipped", "could not import 'a_module_that_is_not_there'"),
    "test_xfail": ("skipped", "xfail: known bug"),
    "test_fail": ("failed", "Failed: on purpose"),
    "test_raises": ("failed", "Failed: DID NOT RAISE KeyError"),
    "test_passes": ("passed", ""),
    "test_one_skips": ("error", "rank 1: skipped"),
    "test_one_xfails": ("error", "harness.RanksDisagreeError"),
    "test_subtests": ("failed", "Failed: but that one"),
    "test_skip_given": ("skipped", "no examples"),
    "test_xfail_given": ("skipped", "xfail: no examples"),
}


class Processes(Bodies, MultiProcessTestCase):
    pass


class Continuous(Bodies, MultiProcContinuousTest):
    @classmethod
    def backend_str(cls):
        return "gloo"


class Threads(Bodies, MultiThreadedTestCase):
    pass


class Decorated(TestCase):
    @spawn_threads_and_init_comms(world_size=2)
    def test_skip(self):
        pytest.skip("not today")

    @spawn_threads_and_init_comms(world_size=2)
    def test_xfail(self):
        pytest.xfail("known bug")

    @spawn_threads_and_init_comms(world_size=2)
    def test_fail(self):
        pytest.fail("on purpose")
