"""The mixin for ranks that are processes: fresh ones for every test, with a folder of their own.

It has PyTorch's names; `harness/cases/process_ranks.py` does the work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from harness.cases.process_mixin_in_rank import InRankMixin
from harness.cases.process_ranks import ProcessRanks, check_return_codes
from harness.cases.ranks_of_test import ranks_of
from harness.cases.world_mixin import MAIN_RANK
from harness.ranks.launch.launcher import ProcessFactory, launcher

__unittest = True  # unittest leaves the frames of such modules out of its tracebacks


class RankTestMixin(InRankMixin):
    """Run each test method in `world_size` processes; see `MultiProcessTestCase`."""

    __harness_ranks__ = ProcessRanks

    MAIN_PROCESS_RANK: ClassVar[int] = MAIN_RANK
    #: On how many nodes the ranks are, or believe to be; None for one, of which they are not told.
    nodes: int | None = None

    processes: list[Any]
    special_return_code_checks: dict[Any, int]
    skip_return_code_checks: list[Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        launcher().need([cls.__module__])

    def setUp(self) -> None:
        super().setUp()
        self.special_return_code_checks = {}
        self.skip_return_code_checks = []
        self.processes = []
        self.file_name = ranks_of(self).make_folder()

    def tearDown(self) -> None:
        super().tearDown()
        ranks_of(self).end_world()

    def _current_test_name(self) -> str:
        # Not from the id, as PyTorch takes it: other libraries put arguments there (absl), and a
        # name that `setattr` gave may have dots in it.
        return str(self._testMethodName)

    def _spawn_processes(self) -> None:
        """Start the ranks, unless the test's skip conditions speak against it."""
        ranks_of(self).start_if_wanted()

    def _start_processes(self, proc: ProcessFactory) -> None:
        """Have a process for each rank; `proc` is called as multiprocessing.Process is."""
        ranks_of(self).start_processes(proc)

    def _join_processes(self, fn: Callable[[], Any]) -> None:
        """Wait for the ranks and raise what they add up to."""
        ranks_of(self).join_processes(fn)

    _check_return_codes = check_return_codes
