"""`MultiProcContinuousTest`: rank tests that find their process group brought up."""

from __future__ import annotations

from harness.cases.continuous_mixin import ContinuousTestMixin
from harness.cases.testcase import TestCase


class MultiProcContinuousTest(ContinuousTestMixin, TestCase):
    """A TestCase whose test methods run in every rank of a world, with the process group up.

    The class says which: `backend_str()`, `opts()` and `timeout` for the process group,
    `device_type()` and `world_size` for the ranks::

        class TestSum(MultiProcContinuousTest):
            world_size = 2

            @classmethod
            def backend_str(cls):
                return "gloo"

            def test_all_reduce(self):
                x = torch.ones(3)
                dist.all_reduce(x)
                self.assertEqual(x, torch.full((3,), 2.0))

    Tests share the ranks and the process group as long as each leaves them as it found them (see
    `isolation`). Unlike under PyTorch's class of this name, a test that fails, hangs or skips takes
    no other test with it: the next one gets a fresh world.

    Attributes:
        world_size: number of ranks; unless the class says otherwise, one for each device.
        rank: this process's rank; MAIN_PROCESS_RANK in the parent.
        pg: in a rank, the default process group.
        timeout: how long the process group waits.
        isolation: "none" unless the class or the environment says otherwise; "group" for a process
            group of each test's own, "process" for processes too.

    Raises (from the test, in the parent):
        RanksFailedError: an assertion failed (a unittest failure).
        RanksRaisedError, RanksDiedError, RanksTimedOutError, RanksDisagreeError: errors.
    """
