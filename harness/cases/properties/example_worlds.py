"""The worlds that run the examples of a property test: processes that stay up, or new threads.

The protocol with ranks that are processes:

    1. The ranks start, reach the test's body, and wait (`begin`).
    2. The parent sends RunExample to all ranks (`run`). Each runs the body, reports its outcome and
       its remarks, and waits again. It stays even if the example failed.
    3. If a rank crashed or hung, the world has ended. `ensure_up` starts a new one before the next
       example.
    4. The parent sends NoMoreExamples (`finish`); the ranks end like those of any other test.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from harness.diagnosis.audit import audited
from harness.model import settings
from harness.model.example import Remarks
from harness.model.verdict import ExitRule, Verdict, judge
from harness.ranks.messages import NoMoreExamples, RunExample
from harness.ranks.watch.rank_warnings import RankWarnings
from harness.ranks.watch.supervisor import Limits, Supervisor
from harness.ranks.world import World


@dataclass(frozen=True)
class ExampleRequest:
    """One example for all ranks.

    Attributes:
        values: the arguments, packed.
        wants_notes: whether Hypothesis will print notes.
        limit_s: time limit for the body.
        deadlock_s: how long the ranks must be stuck to count as deadlocked; 0 turns the check off.
        thorough: whether to spend about a second on collecting stacks of ranks that hang.
    """

    values: bytes
    wants_notes: bool
    limit_s: float
    deadlock_s: float
    thorough: bool


@dataclass(frozen=True)
class ExampleResult:
    """The result of one example.

    Attributes:
        verdict: the ranks' verdict.
        remarks: each rank's calls of Hypothesis: notes, events, targets, a failed assumption.
        left_running: whether ranks could not be ended, and may disturb other examples.
    """

    verdict: Verdict
    remarks: tuple[Remarks, ...]
    left_running: bool = False


class ExampleWorld(Protocol):
    """Runs examples, one at a time."""

    def ensure_up(self) -> None:
        """Make sure that ranks are up: start new ones if the last example has ended them."""

    def run(self, request: ExampleRequest) -> ExampleResult:
        """Run the example in all ranks."""


class ProcessWorld:
    """Ranks that are processes.

    Args:
        restart: starts new ranks and returns their world.
        file_name: the test's file for a FileStore; every example gets its own beside it.
    """

    def __init__(self, world: World, restart: Callable[[], World], file_name: str) -> None:
        self._world = world
        self._restart = restart
        self._file_name = file_name
        self._number = 0
        # The first example uses whatever group the world has: a kept one, or none.
        self._fresh_group = False
        self.is_up = False
        #: The ranks' warnings, from all examples.
        self.warnings = RankWarnings()

    def begin(self) -> Verdict:
        """Wait until the ranks are up and wait for an example; return a pass, or what failed."""
        # There is no body yet, so the limit for starting applies to everything.
        limit_s = settings.START_TIMEOUT_S.value()
        verdict = self._verdict(Limits(limit_s, limit_s, settings.EXIT_TIMEOUT_S.value()))[0]
        self.is_up = self._world.awaits_example
        return verdict

    def ensure_up(self) -> None:
        if not self.is_up:
            self._world = self._restart()
            self.is_up = True

    def run(self, request: ExampleRequest) -> ExampleResult:
        self._number += 1
        file_name = f"{self._file_name}.{self._number}"
        # A FileStore must start empty: keys of an earlier example would satisfy a rendezvous at
        # once.
        os.close(os.open(file_name, os.O_CREAT | os.O_WRONLY, 0o600))
        order = RunExample(
            number=self._number,
            file_name=file_name,
            fresh_group=self._fresh_group,
            wants_notes=request.wants_notes,
            values=request.values,
        )
        try:
            return self._run_order(order, request)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(file_name)

    def _run_order(self, order: RunExample, request: ExampleRequest) -> ExampleResult:
        self._world.resume(order)
        verdict, remarks = self._verdict(
            Limits(
                start_s=settings.START_TIMEOUT_S.value(),
                body_s=request.limit_s,
                exit_s=settings.EXIT_TIMEOUT_S.value(),
                deadlock_s=request.deadlock_s,
                faulty_stay=True,
                deep=request.thorough,
            )
        )
        self.is_up = self._world.awaits_example
        # After a failure, some ranks may have initialized a group and others not. A fresh group
        # puts them in the same state.
        self._fresh_group = verdict.is_trouble or bool(verdict.faults) or not self._world.is_clean
        return ExampleResult(verdict, remarks)

    def _verdict(self, limits: Limits) -> tuple[Verdict, tuple[Remarks, ...]]:
        supervisor = Supervisor(self._world, limits, ExitRule())
        verdict = audited(judge(supervisor.run()), settings.audit_only_warns())
        self.warnings.add(supervisor.ranks)
        return verdict, tuple(rank.remarks for rank in supervisor.ranks)

    def finish(self) -> None:
        """Tell ranks that are up to end the test, like the ranks of any other test."""
        if self.is_up:
            self._world.resume(NoMoreExamples())


class ThreadWorlds:
    """Ranks that are threads; each example gets new ones.

    Args:
        run: runs an example in new ranks.
    """

    def __init__(self, run: Callable[[ExampleRequest], ExampleResult]) -> None:
        self._run = run

    def ensure_up(self) -> None:
        """Do nothing: `run` starts new ranks."""

    def run(self, request: ExampleRequest) -> ExampleResult:
        return self._run(request)
