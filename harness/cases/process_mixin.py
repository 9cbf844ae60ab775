"""The mixin for tests whose ranks are processes; every test gets a folder for its files.

Its methods have PyTorch's names, since PyTorch's tests override and call them. They delegate to
`harness/cases/process_ranks.py`.
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
    #: The number of nodes, real or simulated. None for one node without torchrun's node variables.
    nodes: int | None = None

    processes: list[Any]
    special_return_code_checks: dict[Any, int]
    skip_return_code_checks: list[Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # The fork server imports the module, so that every rank finds it imported already.
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
        # PyTorch takes the name from id(). That is wrong where absl adds arguments to the id, and
        # for names with dots, which `setattr` allows.
        return str(self._testMethodName)

    def _spawn_processes(self) -> None:
        """Start the ranks, unless a skip condition of the test applies."""
        ranks_of(self).start_unless_skipped()

    def _start_processes(self, proc: ProcessFactory) -> None:
        """Start a process for each rank; `proc` has the signature of multiprocessing.Process."""
        ranks_of(self).start_processes(proc)

    def _join_processes(self, fn: Callable[[], Any]) -> None:
        """Wait for the ranks and raise their verdict."""
        ranks_of(self).join_processes(fn)

    _check_return_codes = check_return_codes
