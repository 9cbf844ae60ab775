"""The part of a process test that runs in the ranks: process group, test body, report."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import Any, ClassVar

from harness.cases.decorators.overrides import group_timeout_s
from harness.cases.ranks_of_test import Ranks, ranks_of
from harness.cases.require_torch import require_distributed
from harness.cases.seeding import set_rng_seed
from harness.cases.world_mixin import WorldTestMixin
from harness.model.outcome import Passed, Skipped
from harness.model.skips import TEST_ERROR_EXIT_CODE, TEST_SKIPS
from harness.model.spec import PROCESS
from harness.ranks import this_rank
from harness.ranks.body import run_body
from harness.ranks.this_rank import ProcessRank

__unittest = True  # unittest leaves the frames of such modules out of its tracebacks


class RanksInRank(Ranks):
    """The half of `ProcessRanks` that is used in the ranks."""

    @classmethod
    def enter(
        cls,
        test_class: Any,
        rank: int,
        test_name: str,
        file_name: str,
        pipe: ProcessRank,
        **kwargs: Any,
    ) -> None:
        """Run a test of the class in this process, as this rank."""
        test_class._run(rank, test_name, file_name, pipe, **kwargs)

    def hand_out(self, name: str, data: bytes) -> None:
        this_rank.store().hand_out(name, data)

    def handed_out(self, name: str) -> bytes:
        return this_rank.store().handed_out(name)

    def take_back(self, name: str) -> None:
        this_rank.store().take_back(name)

    def seed(self) -> None:
        set_rng_seed()

    def leave_process_group(self, rank: ProcessRank) -> None:
        """Destroy the process group, unless the next test reuses it."""
        if self.case.destroy_pg_upon_exit:
            rank.leave_group(exits=not rank.goes_on)


class InRankMixin(WorldTestMixin):
    """The half of `RankTestMixin` that runs in the ranks."""

    TEST_ERROR_EXIT_CODE: ClassVar[int] = TEST_ERROR_EXIT_CODE

    #: What a test shares with the test before it: "process" for nothing, "group" for the processes,
    #: "none" for the processes and the process group; None for the HARNESS_ISOLATION setting.
    isolation: str | None = None

    file_name: str

    @property
    def destroy_pg_upon_exit(self) -> bool:
        """Whether a rank destroys its process group after the body, if the body did not."""
        return True

    def init_process_group(self, backend: str = "gloo", **kwargs: Any) -> None:
        """Initialize the default process group of this rank's world, using the test's own store.

        Args:
            backend: the c10d backend.
            kwargs: further arguments of `torch.distributed.init_process_group`. If the class sets
                `timeout_s`, the group's default timeout is longer than that.
        """
        import torch.distributed as dist

        require_distributed()
        if self.timeout_s is not None:
            longer = timedelta(seconds=group_timeout_s(self.timeout_s))
            kwargs.setdefault("timeout", longer)

        # `bring_up` runs only if the rank has no group from an earlier test that it may reuse. The
        # key is made before `setdefault` adds the store, which differs for every test.
        def bring_up() -> None:
            store = this_rank.store().for_group(self.file_name, self.world_size)
            kwargs.setdefault("store", store)
            dist.init_process_group(backend, rank=self.rank, world_size=self.world_size, **kwargs)

        this_process = this_rank.of_process()
        if this_process is None:  # a process that the test has spawned
            bring_up()
        else:
            isolation = self.isolation or PROCESS
            this_process.bring_up_group(isolation, (backend, dict(kwargs)), bring_up)

    def perRankSetUp(self) -> None:
        """Set up a rank; runs in every rank before the test method. setUp runs in the parent."""

    def perRankTearDown(self) -> None:
        """Tear down a rank; runs in every rank after the test. tearDown runs in the parent."""

    @classmethod
    def _run(
        cls, rank: int, test_name: str, file_name: str, parent_pipe: Any, **kwargs: Any
    ) -> None:
        """Run the test in a rank. An override calls `run_test` on an instance with its rank set."""
        self = cls(test_name)
        self.rank = rank
        self.file_name = file_name
        self.run_test(test_name, parent_pipe)

    def run_test(self, test_name: str, parent_pipe: ProcessRank) -> None:
        """Run the body in this rank and report the outcome; exits unless it passed.

        The order matters. The rank reports before it waits, so that the parent sees a failure while
        peers still run. It waits for its peers before it destroys the process group: a rank that
        leaves early makes collectives of slower peers fail with a connection error, and then the
        report would blame them. A rank that failed does not wait.
        """
        set_rng_seed()
        outcome = run_body(
            self,
            self.perRankSetUp,
            self.perRankTearDown,
            parent_pipe.enter,
        )
        parent_pipe.report(outcome)
        # PyTorch's tests assert on this exit code of a rank that failed.
        if not isinstance(outcome, Passed | Skipped):
            sys.exit(self.TEST_ERROR_EXIT_CODE)
        parent_pipe.await_peers()
        ranks_of(self).leave_process_group(parent_pipe)
        if isinstance(outcome, Skipped):
            sys.exit(TEST_SKIPS["generic"].exit_code)
