"""`MultiProcessTestCase`: every test method runs in a world of processes."""

from __future__ import annotations

from harness.cases.process_mixin import RankTestMixin
from harness.cases.testcase import TestCase


class MultiProcessTestCase(RankTestMixin, TestCase):
    """A TestCase whose test methods run in every rank of a world of their own.

    In a test method, `self.rank` and `self.world_size` say who is running, and
    `self.init_process_group()` brings up a process group::

        class TestSum(MultiProcessTestCase):
            world_size = 2

            def test_all_reduce(self):
                self.init_process_group()
                x = torch.ones(3)
                dist.all_reduce(x)
                self.assertEqual(x, torch.full((3,), 2.0))

    The test passes only if every rank ran the method to its end. `setUp` and `tearDown` run in the
    parent, `perRankSetUp` and `perRankTearDown` in each rank. Where `setUp` has not called
    `_spawn_processes()`, as tests for PyTorch's class do, the harness does so when the test runs.

    Attributes:
        world_size: number of ranks, 4 unless the class or a decorator says otherwise.
        rank: this process's rank; MAIN_PROCESS_RANK in the parent.
        device: this rank's accelerator, or the CPU.
        isolation: how much of a world a test shares with the one before it; None for what the
            environment says, or else "process".
        file_name: an empty file, the same for all ranks, for a FileStore.
        processes: in the parent, the processes by rank (pid, exitcode, kill(), …).
        special_return_code_checks: in the parent, test method to the exit code that rank 0 must
            and other ranks may end with, negative for a signal.
        skip_return_code_checks: in the parent, test methods whose ranks may exit as they like.

    Raises (from the test, in the parent):
        RanksFailedError: an assertion failed (a unittest failure).
        RanksRaisedError, RanksDiedError, RanksTimedOutError, RanksDisagreeError: errors.
    """
