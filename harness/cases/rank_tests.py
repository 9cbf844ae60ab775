"""The mixin for ranks that are processes: fresh ones for every test, with a folder of their own.

Here is what happens in the parent; `harness/cases/in_rank.py` has the rank's half.
"""

from __future__ import annotations

import os
import sys
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from harness.cases.example_worlds import ProcessWorld
from harness.cases.expecting import accept
from harness.cases.failing import Leaks, as_no_fault_of_the_test, raise_verdict, report_leaks
from harness.cases.hooks import PROCESS_HOOKS
from harness.cases.in_rank import InRankMixin
from harness.cases.isolation import isolation_of
from harness.cases.nodes import nodes_of
from harness.cases.timeouts import timeout_of
from harness.cases.under_hypothesis import is_given, run_property_test
from harness.cases.world_tests import MAIN_RANK
from harness.model import settings
from harness.model.clock import Deadline
from harness.model.expectation import Expectation
from harness.model.spec import PROCESS, LaunchSpec, check_world_size
from harness.model.verdict import ExitRule, Verdict, judge
from harness.ranks import folders, tracks
from harness.ranks.given import GivenRanks, current, placed, start_world
from harness.ranks.launcher import ProcessFactory, launcher
from harness.ranks.launching import launch_environ, name_for_ranks, rank_threads
from harness.ranks.leftovers import LEAVING_S, Leftover
from harness.ranks.logs import copy_logs
from harness.ranks.pool import StayingWorld, pool
from harness.ranks.remains import imported_by, left_in
from harness.ranks.supervisor import Limits, Supervisor
from harness.ranks.world import World

__unittest = True  # unittest leaves the frames of such modules out of its tracebacks

# How many modules a rank may import itself before it pays to have the fork server do it: a handful
# costs milliseconds, torch's compiler stack, which the first DistributedDataParallel imports, a
# second in every rank.
_WORTH_LEARNING = 50


class RankTestMixin(InRankMixin):
    """Run each test method in `world_size` processes; see `MultiProcessTestCase`."""

    _HOOKS = PROCESS_HOOKS

    #: The class method that is called in a rank.
    _ENTRY: ClassVar[str] = "_run"
    #: Whether tests run on the ranks that torchrun has started, where there are any.
    _ON_GIVEN_RANKS: ClassVar[bool] = True
    #: The isolation of a class that says nothing, where the environment says nothing either.
    _USUAL_ISOLATION: ClassVar[str] = PROCESS

    MAIN_PROCESS_RANK: ClassVar[int] = MAIN_RANK
    #: On how many nodes the ranks are, or believe to be; None for one, of which they are not told.
    nodes: int | None = None

    processes: list[Any]
    special_return_code_checks: dict[Any, int]
    skip_return_code_checks: list[Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        launcher().need([cls.__module__])

    def __init__(self, method_name: str = "runTest", methodName: str = "runTest") -> None:
        super().__init__(method_name, methodName)
        self._world: World | None = None
        self._folder: Path | None = None
        self._keep = False
        self._stays = False
        self._own_world: StayingWorld | None = None
        self._expectations: dict[int, list[Expectation]] = {}

    def setUp(self) -> None:
        super().setUp()
        self.special_return_code_checks = {}
        self.skip_return_code_checks = []
        self.processes = []
        self._folder = folders.new_test_folder(self._current_test_name())
        # Removed last of all: a subclass's tearDown may still look at its files.
        self.addCleanup(self._remove_folder)
        file = self._folder / "store"
        file.touch(mode=0o600)
        self.file_name = str(file)

    def tearDown(self) -> None:
        super().tearDown()
        self._end_world()

    def _current_test_name(self) -> str:
        return str(self.id()).split(".")[-1]

    def _spawn_processes(self) -> None:
        """Start the ranks, unless the test's skip conditions speak against it."""
        if not self._may_start():
            return
        self._start_processes(_Factory())

    def _start_processes(self, proc: ProcessFactory) -> None:
        """Have a process for each rank; `proc` is called as multiprocessing.Process is."""
        self.addCleanup(self._end_world)
        test = getattr(self, self._testMethodName)
        self._timeout_s = timeout_of(self, test)
        ranks = self._given_ranks()
        spec = self._launch_spec(isolation_of(self, test, self._USUAL_ISOLATION))
        spec = placed(spec, nodes_of(self, test), ranks)
        if spec.stays:
            self._world = pool().world_for(spec, lambda spec: start_world(spec, proc, ranks))
        elif spec.has_examples:
            self._own_world = StayingWorld.start(spec, lambda spec: start_world(spec, proc, ranks))
            self._world = self._own_world.world
        else:
            self._world = start_world(spec.in_world(spec.folder), proc, ranks)
        self._stays = spec.stays
        self.processes = self._world.processes

    def _launch_spec(self, isolation: str) -> LaunchSpec:
        cls = type(self)
        size = check_world_size(self.world_size, cls.__qualname__)
        ranks = self._given_ranks()
        assert self._folder is not None
        return LaunchSpec(
            test_id=str(self.id()),
            module=cls.__module__,
            qualname=name_for_ranks(cls),
            method=self._current_test_name(),
            world_size=size,
            file_name=self.file_name,
            folder=str(self._folder),
            world_folder="",
            environ=launch_environ(
                folders.temp_folder(self._folder), interface=ranks.interface if ranks else None
            ),
            cwd=os.getcwd(),
            sys_path=tuple(entry or os.getcwd() for entry in sys.path),
            argv=tuple(sys.argv),
            threads=rank_threads(size),
            timeout_s=self._timeout_s,
            entry=self._ENTRY,
            extras={"fake_pg": getattr(self, "fake_pg", False)},
            isolation=isolation,
            has_examples=is_given(getattr(self, self._testMethodName)),
        )

    def _given_ranks(self) -> GivenRanks | None:
        """The ranks that torchrun has started, if there are any and the test may use them."""
        return current() if self._ON_GIVEN_RANKS else None

    def _reason_against_start(self) -> str | None:
        reason, ranks = super()._reason_against_start(), self._given_ranks()
        if reason is not None or ranks is None:
            return reason
        size = check_world_size(self.world_size, type(self).__qualname__)
        if size > ranks.size:
            return f"needs {size} ranks; the world that was given has {ranks.size}"
        return None

    def _has_started(self) -> bool:
        return self._world is not None

    def _start_ranks(self) -> None:
        self._spawn_processes()

    def _join_ranks(self, fn: Callable[[], Any]) -> None:
        self._join_processes(fn)

    def _join_processes(self, fn: Callable[[], Any]) -> None:
        """Wait for the ranks and raise what they add up to."""
        with as_no_fault_of_the_test(self):
            verdict, left = self._await_verdict(fn)
        if not verdict.is_trouble:
            report_leaks(self, left)
        raise_verdict(self, verdict, self._kept_folder(verdict))
        accept(self._expectations)

    def _run_examples(self, fn: Callable[[], Any]) -> None:
        assert self._world is not None
        world = ProcessWorld(self._world, self._restart, self.file_name)
        with as_no_fault_of_the_test(self):
            self._await_examples(world)
        try:
            run_property_test(self, fn, world, self._timeout_s)
        except unittest.SkipTest:
            self._finish_examples(world, fn)
            raise
        self._finish_examples(world, fn)

    def _await_examples(self, world: ProcessWorld) -> None:
        verdict = world.begin()
        raise_verdict(self, verdict, self._kept_folder(verdict))

    def _finish_examples(self, world: ProcessWorld, fn: Callable[[], Any]) -> None:
        if world.is_up:
            world.finish()
            self._join_processes(fn)

    def _restart(self) -> World:
        """Have new ranks in the place of those that an example has ended."""
        self._end_world()
        self._start_processes(_Factory())
        assert self._world is not None
        self._await_examples(ProcessWorld(self._world, self._restart, self.file_name))
        return self._world

    def _await_verdict(self, fn: Callable[[], Any]) -> tuple[Verdict, Leaks]:
        """See the ranks through to their ends; returns the verdict, and what they left running."""
        assert self._world is not None
        limits = Limits(
            start_s=settings.START_TIMEOUT_S.value(),
            body_s=self._timeout_s,
            exit_s=settings.EXIT_TIMEOUT_S.value(),
            deadlock_s=settings.DEADLOCK_S.value(),
        )
        rule = self._exit_rule(fn)
        supervisor = Supervisor(self._world, limits, rule)
        with tracks.left_behind(supervisor, self._world.logs, rule, self._testMethodName):
            verdict = judge(supervisor.run(), rule)
        running: list[Leftover] = []
        if not self._stays:
            running = self._world.end_leftovers(0.0 if verdict.is_trouble else LEAVING_S)
        self._expectations = {rank.rank: rank.expectations for rank in supervisor.ranks}
        imported = imported_by(supervisor.ranks)
        if len(imported) >= _WORTH_LEARNING:
            launcher().learn(imported)
            ranks = self._given_ranks()
            if ranks is not None:
                ranks.learn(imported)
        return verdict, Leaks(running, left_in(supervisor.ranks))

    def _exit_rule(self, fn: Callable[[], Any]) -> ExitRule:
        return ExitRule(
            # 0 is how every test ends.
            expected_code=self.special_return_code_checks.get(fn) or None,
            any_code=fn in self.skip_return_code_checks,
        )

    def _end_world(self) -> None:
        """End the ranks if they still run (a later part of setUp failed, say)."""
        world, self._world, self.processes = self._world, None, []
        own, self._own_world = self._own_world, None
        if world is not None and self._stays:
            pool().take_back(world)
        elif own is not None:
            own.end()
        elif world is not None:
            world.end(grace_s=0.0)
            world.end_leftovers()
            world.close()

    def _kept_folder(self, verdict: Verdict) -> str:
        """Where the test's folder will be found afterwards; empty if it will not."""
        self._keep = settings.KEEP_FOLDERS.value() and verdict.is_trouble
        if not self._keep or self._folder is None:
            return ""
        if self._world is not None:
            copy_logs(self._world.folder, str(self._folder))
        return str(folders.kept_path(self._folder))

    def _remove_folder(self) -> None:
        folder, self._folder = self._folder, None
        if folder is not None and self._keep:
            folders.keep(folder)
        elif folder is not None:
            folders.remove(folder)


class _Factory:
    """Makes processes by the launcher's choice, which is made when the first one is asked for."""

    def __init__(self) -> None:
        self._chosen: ProcessFactory | None = None

    def __call__(self, **kwargs: Any) -> Any:
        if self._chosen is None:
            deadline = Deadline.after(settings.START_TIMEOUT_S.value())
            self._chosen = launcher().factory(deadline)
        return self._chosen(**kwargs)
