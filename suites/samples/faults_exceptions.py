"""Faults of which Python tells: exceptions, skips and expected failures in one of the ranks."""

from __future__ import annotations

import os
import signal
import threading
import time
import unittest

import torch
import torch.distributed as dist

from harness import timeout
from suites.samples.fault_table import FOREVER_S, TIME_LIMIT_S, died, failed, fault, hung, raised


class UnpicklableError(Exception):
    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")
        self.lock = threading.Lock()


class UnprintableError(Exception):
    def __str__(self):
        raise ValueError("no words")


class ExceptionBodies:
    """The test itself fails in one rank or in all of them."""

    @failed(
        "assertion on rank 1, peer in a collective",
        "rank 1: AssertionError",
        "Expected 2 but got 1.",
        "the long message",
        hides=("rank 0: RuntimeError",),
    )
    def test_assertion_rank_1(self):
        self.bring_up()
        dist.barrier()
        if self.rank == 1:
            self.now()
            self.assertEqual(1, 2, "the long message")
        dist.all_reduce(torch.ones(2))

    @failed("assertion on rank 0", "rank 0: AssertionError", "Expected 1 but got 0.")
    def test_assertion_rank_0(self):
        self.now()
        self.assertEqual(self.rank, 1)

    @failed(
        "the same assertion on all ranks", "ranks 0 and 1: AssertionError", "Expected 8 but got 7."
    )
    def test_assertion_all(self):
        self.meet()
        self.now()
        self.assertEqual(7, 8)

    @raised("exception on rank 1", "rank 1: ValueError: bad value")
    def test_exception(self):
        if self.rank == 1:
            self.now()
            raise ValueError("bad value")

    @raised(
        "every rank fails in its own way", "rank 0: ValueError: zero", "rank 1: KeyError: 'one'"
    )
    def test_all_differently(self):
        self.meet()
        self.now()
        raise [ValueError("zero"), KeyError("one")][self.rank]

    @raised("an exception that cannot be pickled", "UnpicklableError: this and that")
    def test_unpicklable(self):
        self.now()
        raise UnpicklableError("this", "that")

    @raised("an exception whose __str__ raises", "UnprintableError", "raised ValueError")
    def test_exception_in_str(self):
        self.now()
        raise UnprintableError

    @failed("an assertion with a message of 1 MB", "characters left out", "the end of it")
    def test_1_mb_message(self):
        self.now()
        self.fail("a" * 1_000_000 + "the end of it")

    @raised("a message that is not valid UTF-8", "ValueError: \\udcff\\udcfe")
    def test_invalid_utf8_message(self):
        self.now()
        raise ValueError(b"\xff\xfe".decode("utf-8", "surrogateescape"))

    @failed("output that is not valid UTF-8", "before \ufffd\ufffd after", "AssertionError: see")
    def test_invalid_utf8_output(self):
        os.write(1, b"before \xff\xfe after\n")
        self.now()
        self.fail("see the output")

    @raised("endless recursion", "RecursionError")
    def test_recursion(self):
        self.now()
        self._recurse()

    def _recurse(self):
        return self._recurse()

    @raised("KeyboardInterrupt in a rank", "rank 1: KeyboardInterrupt")
    def test_keyboard_interrupt(self):
        if self.rank == 1:
            self.now()
            raise KeyboardInterrupt

    @raised("an exception in a cleanup", "rank 1: OSError: cleanup")
    def test_exception_in_cleanup(self):
        if self.rank == 1:
            self.now()
            self.addCleanup(self.raise_, OSError("cleanup"))

    def raise_(self, error):
        raise error

    @failed(
        "several sub-tests fail",
        "[first] (i=1, name='x')",
        "(i=3)",
        "rank 1: AssertionError: True is not false : 1",
        "ranks 0 and 1: AssertionError: 3",
        hides=("(i=2)",),
    )
    def test_subtests(self):
        self.meet()
        self.now()
        with self.subTest("first", i=1, name="x"):
            self.assertFalse(self.rank == 1, "1")
        with self.subTest(i=2):
            pass
        with self.subTest(i=3):
            self.fail("3")

    @raised("a peer's error that only follows", "rank 1: ValueError: the cause", "rank 0: ")
    def test_collateral(self):
        self.bring_up()
        dist.barrier()
        if self.rank == 1:
            self.now()
            dist.destroy_process_group()
            raise ValueError("the cause")
        dist.all_reduce(torch.ones(2))


class SkipBodies:
    @fault(
        "a skip on rank 1 alone",
        "error",
        "RanksDisagreeError",
        ("rank 1: skipped: only here", "rank 0 passed"),
    )
    def test_skip_on_one_rank(self):
        if self.rank == 1:
            self.now()
            self.skipTest("only here")

    @fault("a skip on all ranks", "skipped", "", ("nothing to do",))
    def test_skip_on_all(self):
        self.now()
        self.skipTest("nothing to do")

    @fault("a skip on rank 1, an exception on rank 0", "error", "RanksRaisedError", ("ValueError",))
    def test_skip_and_exception(self):
        self.now()
        if self.rank == 1:
            self.skipTest("only here")
        raise ValueError("here too")


class ExpectedFailureBodies:
    @fault("expectedFailure and an assertion", "expected failure")
    @unittest.expectedFailure
    def test_expected_assertion(self):
        self.now()
        self.assertEqual(self.rank, 5)

    @fault("expectedFailure and an exception", "expected failure")
    @unittest.expectedFailure
    def test_expected_exception(self):
        self.now()
        raise ValueError

    @fault("expectedFailure, and all ranks pass", "unexpected success")
    @unittest.expectedFailure
    def test_unexpected_success(self):
        self.now()

    @died("expectedFailure and a crash", "rank 1: killed by SIGKILL")
    @unittest.expectedFailure
    def test_expected_but_killed(self):
        self.die_alone(lambda: os.kill(os.getpid(), signal.SIGKILL))

    @hung("expectedFailure and a timeout", "2 of 2 ranks timed out after 1 s")
    @unittest.expectedFailure
    @timeout(TIME_LIMIT_S)
    def test_expected_but_hung(self):
        self.now()
        time.sleep(FOREVER_S)
