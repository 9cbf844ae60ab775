"""Start, await and end the ranks of one running test where ranks are threads.

The steps are those of `process_ranks`, with two differences. Threads are never reused: a new world
costs a millisecond. And a property test has no world when it starts: each example gets its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.cases.assertions.expecting import accept
from harness.cases.decorators.overrides import audit_of, timeout_of
from harness.cases.hooks import THREAD_HOOKS
from harness.cases.places import raise_errors_at_test
from harness.cases.properties.example_worlds import ExampleRequest, ExampleResult, ThreadWorlds
from harness.cases.properties.under_hypothesis import as_examples, is_given, run_property_test
from harness.cases.raising import (
    errors_despite_expected_failure,
    raise_verdict,
    report_stuck_threads,
)
from harness.cases.ranks_of_test import Ranks
from harness.cases.require_torch import require_distributed
from harness.diagnosis.audit import audited
from harness.model import settings
from harness.model.example import Example
from harness.model.marks import RANKS
from harness.model.rank_report import RankReport
from harness.model.spec import check_world_size
from harness.model.verdict import Verdict, judge
from harness.ranks import expectations
from harness.ranks.threads import tracks
from harness.ranks.threads.rank import current_rank
from harness.ranks.threads.world import ThreadWorld

__unittest = True  # unittest leaves the frames of such modules out of its tracebacks

# Attributes of the parent's instance that the ranks' instances do not get.
_PARENT_ATTRIBUTES = frozenset({RANKS, "threads"})


class ThreadRanks(Ranks):
    """The threads of one test."""

    hooks = THREAD_HOOKS
    are_threads = True

    def __init__(self, case: Any) -> None:
        super().__init__(case)
        self._world: ThreadWorld | None = None
        self._is_ready = False

    # In the parent

    @property
    def has_started(self) -> bool:
        return self._is_ready

    def start(self) -> None:
        self.case._spawn_threads()

    def start_unless_skipped(self) -> None:
        """Start the ranks, unless a skip condition of the test applies."""
        raise_errors_at_test(self.case, self._start_unless_skipped)

    def _start_unless_skipped(self) -> None:
        if not self.may_start():
            return
        require_distributed()
        self.end()  # a test may start its ranks twice; only the last ones count
        self.timeout_s = timeout_of(self.case, self.test)
        self.case.addCleanup(self.end)
        # Set even for property tests, whose threads start later: otherwise `join_or_skip` would
        # start them again.
        self._is_ready = True
        if not is_given(self.test):  # each example of a property test has its own threads
            self._world = self._new_world()
            self._world.start()

    def _new_world(self) -> ThreadWorld:
        """Return a world whose threads have not started yet."""
        cls, name = type(self.case), self.case._current_test_name
        size = check_world_size(self.case.world_size, cls.__qualname__)
        expectations.install()
        level = audit_of(self.case, self.test)
        world = ThreadWorld(size, lambda rank: cls._run(name, rank, size), level)
        attributes = {k: v for k, v in vars(self.case).items() if k not in _PARENT_ATTRIBUTES}
        for thread in world.threads:
            thread.set_up = attributes
        self.case.threads = list(world.threads)
        # PyTorch's class has this attribute, for overrides that initialize the group themselves.
        cls.global_store = world.groups.store
        return world

    def join(self, fn: Callable[[], Any]) -> None:
        world = self._world
        assert world is not None
        wait_and_raise(world, self.timeout_s, self.case)
        accept({thread.rank: thread.expectations for thread in world.threads})

    def run_examples(self, fn: Callable[[], Any]) -> None:
        body = fn.hypothesis.inner_test  # type: ignore[attr-defined]

        def run(request: ExampleRequest) -> ExampleResult:
            self.end()
            world = self._world = self._new_world()
            for thread in world.threads:
                thread.example = Example(request.values, request.wants_notes)
            # The threads share the test function with Hypothesis, which has replaced its body by
            # one that asks the ranks. Inside, calling it runs the real body with the example.
            with as_examples(fn, body):
                world.start()
                reports = world.wait(request.limit_s, request.deadlock_s)
            stuck = [thread.name for thread in world.running()]
            # A thread in native code cannot be ended (CPython has no way to do it), so it is only
            # reported.
            report_stuck_threads(self.case, stuck)
            remarks = [thread.example.remarks for thread in world.threads if thread.example]
            return ExampleResult(_verdict(reports), tuple(remarks), left_running=bool(stuck))

        run_property_test(self.case, fn, ThreadWorlds(run), self.timeout_s)

    def end(self) -> None:
        """End the ranks if they still run."""
        world, self._world = self._world, None
        if world is not None:
            world.end()

    # In a rank

    def hand_out(self, name: str, data: bytes) -> None:
        current_rank().groups.handed_out[name] = data

    def handed_out(self, name: str) -> bytes:
        return current_rank().groups.handed_out[name]

    def take_back(self, name: str) -> None:
        del current_rank().groups.handed_out[name]

    def seed(self) -> None:
        current_rank().seed()


def wait_and_raise(world: ThreadWorld, limit_s: float, case: Any) -> None:
    """Wait for the ranks, at most `limit_s` seconds, and raise their verdict."""
    with (
        errors_despite_expected_failure(case),
        tracks.recording_tracks(world, case._testMethodName),
    ):
        reports = world.wait(limit_s, settings.DEADLOCK_S.value())
    report_stuck_threads(case, [thread.name for thread in world.running()])
    raise_verdict(case, _verdict(reports))


def _verdict(reports: tuple[RankReport, ...]) -> Verdict:
    return audited(judge(reports), settings.audit_only_warns())
