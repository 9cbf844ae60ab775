"""`MultiThreadedTestCase`: every test method runs in a world of threads."""

from __future__ import annotations

from harness.cases.testcase import TestCase
from harness.cases.thread_mixin import ThreadTestMixin


class MultiThreadedTestCase(ThreadTestMixin, TestCase):
    """A TestCase whose test methods run in every rank of a world of threads of this process.

    It starts in a millisecond, and a debugger sees all ranks. The process group is there when the
    method begins; its collectives copy between the threads::

        class TestSum(MultiThreadedTestCase):
            world_size = 2

            def test_all_reduce(self):
                x = torch.ones(3)
                dist.all_reduce(x)
                self.assertEqual(x, torch.full((3,), 2.0))

    Ranks share all memory: global state, environment, and one Python interpreter lock. Random
    generators they have of their own (torch's for the CPU, Python's and NumPy's), seeded alike. A
    rank that hangs in native code can be reported, but not be ended. Where that matters, ranks have
    to be processes (`MultiProcessTestCase`).

    The test passes only if every rank ran the method to its end and all called the same
    collectives. `setUp` and `tearDown` run once, `perThreadSetUp` and `perThreadTearDown` in each
    rank. Where `setUp` has not called `_spawn_threads()`, as tests for PyTorch's class do, the
    harness does so when the test runs.

    Attributes:
        world_size: number of ranks, 4 unless the class or a decorator says otherwise.
        rank: the thread's rank; MAIN_THREAD_RANK outside the ranks.
        threads: outside the ranks, the threads by rank.

    Raises (from the test):
        RanksFailedError: an assertion failed (a unittest failure).
        RanksRaisedError, RanksDiedError, RanksTimedOutError, RanksDisagreeError: errors.
    """
