"""The worlds that run the examples of a property test: of processes, which stay up, or threads."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from harness.model import settings
from harness.model.example import Remarks
from harness.model.verdict import ExitRule, Verdict, judge
from harness.ranks.messages import NoMoreExamples, RunExample
from harness.ranks.watch.rank_warnings import RankWarnings
from harness.ranks.watch.supervisor import Limits, Supervisor
from harness.ranks.world import World


@dataclass(frozen=True)
class Question:
    """One example for all ranks.

    Attributes:
        values: the arguments, packed.
        wants_notes: whether somebody will read notes.
        limit_s: what the body may take.
        deadlock_s: for how long the ranks must be seen stuck; 0 for not looking.
        thorough: whether what can be learnt of ranks that hang is worth a second.
    """

    values: bytes
    wants_notes: bool
    limit_s: float
    deadlock_s: float
    thorough: bool


@dataclass(frozen=True)
class Answer:
    """What became of it.

    Attributes:
        verdict: what the ranks add up to.
        remarks: what each rank's body told Hypothesis.
        left_running: whether ranks could not be ended, and may disturb other examples.
    """

    verdict: Verdict
    remarks: tuple[Remarks, ...]
    left_running: bool = False


class ExampleWorld(Protocol):
    """Runs one example after the other."""

    def revive(self) -> None:
        """Have a world that is up: a new one, if the last example has ended it."""

    def run(self, question: Question) -> Answer:
        """Have all ranks run the example."""


class ProcessWorld:
    """Ranks that are processes.

    Args:
        restart: starts the ranks anew and returns their world.
        file_name: the test's file for a FileStore; every example gets one beside it.
    """

    def __init__(self, world: World, restart: Callable[[], World], file_name: str) -> None:
        self._world = world
        self._restart = restart
        self._file_name = file_name
        self._number = 0
        self._fresh_group = False
        self.is_up = False
        #: What ranks have warned of, in any example.
        self.warnings = RankWarnings()

    def begin(self) -> Verdict:
        """See the ranks up that have been started; returns a pass, or what is wrong."""
        limit_s = settings.START_TIMEOUT_S.value()
        verdict = self._verdict(Limits(limit_s, limit_s, settings.EXIT_TIMEOUT_S.value()))[0]
        self.is_up = self._world.awaits_example
        return verdict

    def revive(self) -> None:
        if not self.is_up:
            self._world = self._restart()
            self.is_up = True

    def run(self, question: Question) -> Answer:
        self._number += 1
        file_name = f"{self._file_name}.{self._number}"
        os.close(os.open(file_name, os.O_CREAT | os.O_WRONLY, 0o600))
        order = RunExample(
            number=self._number,
            file_name=file_name,
            fresh_group=self._fresh_group,
            wants_notes=question.wants_notes,
            values=question.values,
        )
        try:
            return self._see_through(order, question)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(file_name)

    def _see_through(self, order: RunExample, question: Question) -> Answer:
        self._world.go_on(order)
        verdict, remarks = self._verdict(
            Limits(
                start_s=settings.START_TIMEOUT_S.value(),
                body_s=question.limit_s,
                exit_s=settings.EXIT_TIMEOUT_S.value(),
                deadlock_s=question.deadlock_s,
                faulty_stay=True,
                deep=question.thorough,
            )
        )
        self.is_up = self._world.awaits_example
        # Else ranks may differ in whether they have a group from the last example.
        self._fresh_group = verdict.is_trouble or not self._world.is_clean
        return Answer(verdict, remarks)

    def _verdict(self, limits: Limits) -> tuple[Verdict, tuple[Remarks, ...]]:
        supervisor = Supervisor(self._world, limits, ExitRule())
        verdict = judge(supervisor.run())
        self.warnings.add(supervisor.ranks)
        return verdict, tuple(rank.remarks for rank in supervisor.ranks)

    def finish(self) -> None:
        """Have ranks that are up end the test as any other."""
        if self.is_up:
            self._world.go_on(NoMoreExamples())


class ThreadWorlds:
    """Ranks that are threads: new ones for every example.

    Args:
        run: has new ranks run an example.
    """

    def __init__(self, run: Callable[[Question], Answer]) -> None:
        self._run = run

    def revive(self) -> None:
        """There is nothing to do before."""

    def run(self, question: Question) -> Answer:
        return self._run(question)
