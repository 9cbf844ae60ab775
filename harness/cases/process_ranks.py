"""Start, await and end the ranks of one running test where ranks are processes.

This is the parent's half; the ranks' half is in `harness/cases/process_mixin_in_rank.py`. The steps
of a test, each of which the class may override under PyTorch's name:

    make_folder             setUp: the test's folder, with the file for a FileStore
    start_unless_skipped         `_spawn_processes`: check the skip conditions, then
    start_processes         `_start_processes`: lease a world from the pool, new or reused
    join_processes          `_join_processes`: supervise the ranks, judge, raise the verdict
    check_verdict           `_check_return_codes`
    end_world               tearDown, and as a cleanup: give the world back, or end it

The harness catches its own errors on the way and raises them from the test's line.
"""

from __future__ import annotations

import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from harness.cases.assertions.expecting import accept
from harness.cases.decorators.overrides import audit_of, isolation_of, nodes_of, timeout_of
from harness.cases.hooks import PROCESS_HOOKS
from harness.cases.places import raise_errors_at_test
from harness.cases.process_mixin_in_rank import RanksInRank
from harness.cases.properties.example_worlds import ProcessWorld
from harness.cases.properties.under_hypothesis import is_given, run_property_test
from harness.cases.raising import (
    Leaks,
    errors_despite_expected_failure,
    raise_verdict,
    report_leaks,
)
from harness.cases.ranks_of_test import ranks_of
from harness.diagnosis.audit import audited
from harness.model import settings
from harness.model.clock import Deadline, now
from harness.model.expectation import Expectation
from harness.model.module_sources import sources_of
from harness.model.spec import PROCESS, LaunchSpec, check_world_size
from harness.model.surroundings import Surroundings
from harness.model.verdict import ExitRule, Verdict, VerdictKind, judge
from harness.ranks import folders
from harness.ranks.launch.environment import launch_environ, name_for_ranks, rank_threads
from harness.ranks.launch.launcher import ProcessFactory, launcher
from harness.ranks.leftovers import LEAVING_S, Leftover
from harness.ranks.logs import copy_logs
from harness.ranks.pool import Lease, pool
from harness.ranks.torchrun.cluster import (
    TorchrunRanks,
    current,
    placed,
    start_world,
    store_address,
)
from harness.ranks.watch import tracks
from harness.ranks.watch.rank_warnings import launch_data, show_warnings
from harness.ranks.watch.supervisor import Limits, Supervisor
from harness.ranks.watch.watched_rank import imported_by, leftovers_text
from harness.ranks.world import World

__unittest = True  # unittest leaves the frames of such modules out of its tracebacks

# From this many modules that a rank had to import, the fork server preloads them for later ranks. A
# handful costs milliseconds. The first DistributedDataParallel imports torch's compiler stack,
# which costs every rank a second.
_MIN_IMPORTS_TO_PRELOAD = 50


class ProcessRanks(RanksInRank):
    """The processes of one test, and the folder with its files."""

    hooks = PROCESS_HOOKS
    #: Whether tests run on the ranks that torchrun has started, if there are any.
    on_torchrun_ranks: ClassVar[bool] = True
    #: The isolation if neither the test, its class nor the environment sets one.
    usual_isolation: ClassVar[str] = PROCESS

    def __init__(self, case: Any) -> None:
        super().__init__(case)
        self._lease: Lease | None = None
        self._folder: Path | None = None
        self._keep = False
        self._expectations: dict[int, list[Expectation]] = {}
        self._verdict: Verdict | None = None
        # Numbers the folders: a property test may start several worlds, and each needs its own
        # logs.
        self._worlds = 0

    def make_folder(self) -> str:
        """Create the test's folder; return the path of an empty file in it for a FileStore."""
        raise_errors_at_test(self.case, self._make_folder)
        return self._store_file

    def _make_folder(self) -> None:
        self._folder = folders.new_test_folder(self.case._current_test_name())
        # A cleanup, so that it runs after tearDown: a subclass's tearDown may still read the files.
        self.case.addCleanup(self._remove_folder)
        with folders.making("the file for a store", self._folder):
            Path(self._store_file).touch(mode=0o600)

    @property
    def _store_file(self) -> str:
        assert self._folder is not None
        return str(self._folder / "store")

    @property
    def has_started(self) -> bool:
        return self._lease is not None

    def start(self) -> None:
        self.case._spawn_processes()

    def start_unless_skipped(self) -> None:
        """Start the ranks, unless a skip condition of the test applies."""
        raise_errors_at_test(self.case, self._start_unless_skipped)

    def _start_unless_skipped(self) -> None:
        if self.may_start():
            self.case._start_processes(_LazyProcessFactory())

    def start_processes(self, proc: ProcessFactory) -> None:
        """Start a process for each rank; `proc` has the signature of multiprocessing.Process."""
        case = self.case
        self._end_earlier_world()
        # A cleanup too, because unittest does not call tearDown if setUp fails after this point.
        case.addCleanup(self.end_world)
        self.timeout_s = timeout_of(case, self.test)
        ranks = self._torchrun_ranks()
        usual = isolation_of(case, self.test, self.usual_isolation)
        # A reused rank does not exit after the test, so a test that checks exit codes gets its own.
        spec = self._launch_spec(PROCESS if self._test_checks_exits else usual)
        spec = placed(spec, nodes_of(case, self.test), ranks)
        self._lease = pool().lease(
            spec,
            lambda spec: start_world(spec, proc, ranks),
            store_address(ranks),
            self._new_world_folder,
        )
        case.processes = self._lease.world.processes

    def _end_earlier_world(self) -> None:
        """End ranks that the test started before: only the last ones count.

        Often a `setUp` calls `_spawn_processes()` although its base class has already done so.
        """
        self._verdict = None
        if self._lease is None:
            return
        self.end_world()
        # A rendezvous over the file must not find what the earlier ranks wrote to it.
        Path(self._store_file).write_bytes(b"")

    def _new_world_folder(self) -> str:
        """Return a folder for the files of a world: the test's own for its first world."""
        assert self._folder is not None
        self._worlds += 1
        folder = self._folder if self._worlds == 1 else self._folder / f"world-{self._worlds}"
        folder.mkdir(mode=0o700, exist_ok=True)
        return str(folder)

    def _launch_spec(self, isolation: str) -> LaunchSpec:
        case, cls = self.case, type(self.case)
        size = check_world_size(case.world_size, cls.__qualname__)
        ranks = self._torchrun_ranks()
        assert self._folder is not None
        return LaunchSpec(
            test_id=str(case.id()),
            module=cls.__module__,
            qualname=name_for_ranks(cls),
            method=case._current_test_name(),
            world_size=size,
            file_name=case.file_name,
            folder=str(self._folder),
            world_folder="",
            surroundings=Surroundings.now(
                launch_environ(
                    folders.temp_folder(self._folder), interface=ranks.interface if ranks else None
                )
            ),
            threads=rank_threads(size),
            timeout_s=self.timeout_s,
            extras={"fake_pg": getattr(case, "fake_pg", False)},
            isolation=isolation,
            # A rank with examples waits for them after `Ready`, instead of running the body at
            # once.
            has_examples=is_given(self.test),
            warnings=launch_data(),
            sources=sources_of(cls.__module__),
            audit=audit_of(case, self.test),
        )

    def _torchrun_ranks(self) -> TorchrunRanks | None:
        """The ranks that torchrun has started, if there are any and the test may use them."""
        return current() if self.on_torchrun_ranks else None

    def reason_to_skip(self) -> str | None:
        reason, ranks = super().reason_to_skip(), self._torchrun_ranks()
        if reason is not None or ranks is None:
            return reason
        size = check_world_size(self.case.world_size, type(self.case).__qualname__)
        if size > ranks.size:
            return f"needs {size} ranks; torchrun started only {ranks.size}"
        return None

    def join(self, fn: Callable[[], Any]) -> None:
        self.case._join_processes(fn)

    def join_processes(self, fn: Callable[[], Any]) -> None:
        """Wait for the ranks and raise their verdict; a second call raises the same one."""
        # Only once: PyTorch's tests may call `_join_processes` again, for example from an override,
        # when the ranks are gone.
        began_s = now()
        if self._verdict is None:
            with errors_despite_expected_failure(self.case):
                self._verdict, left = self._await_verdict(fn)
            if not self._verdict.is_trouble:
                report_leaks(self.case, left)
        # As in PyTorch, an override of `_check_return_codes` replaces the check of exit codes. It
        # must not hide that a rank failed or hung, so it is called only if all ranks passed.
        if self._test_checks_exits and self._verdict.kind is VerdictKind.PASSED:
            self.case._check_return_codes(fn, now() - began_s)
        else:
            self.check_verdict()
        accept(self._expectations)

    def check_verdict(self) -> None:
        """Raise the verdict of the ranks, which have ended."""
        assert self._verdict is not None
        raise_verdict(self.case, self._verdict, self.kept_folder(self._verdict))

    @property
    def _test_checks_exits(self) -> bool:
        """Whether the class overrides the check of its ranks' exit codes."""
        return type(self.case)._check_return_codes is not check_return_codes

    def run_examples(self, fn: Callable[[], Any]) -> None:
        # The ranks stay up for all examples, and end the test when no more examples come. An
        # example that crashes or hangs costs its world; then the next example restarts the ranks.
        assert self._lease is not None
        world = ProcessWorld(self._lease.world, self._restart, self._store_file)
        with errors_despite_expected_failure(self.case):
            self._await_examples(world)
        try:
            run_property_test(self.case, fn, world, self.timeout_s)
        except unittest.SkipTest:
            self._finish_examples(world, fn)
            raise
        finally:
            world.warnings.show()
        self._finish_examples(world, fn)

    def _await_examples(self, world: ProcessWorld) -> None:
        verdict = world.begin()
        raise_verdict(self.case, verdict, self.kept_folder(verdict))

    def _finish_examples(self, world: ProcessWorld, fn: Callable[[], Any]) -> None:
        if world.is_up:
            world.finish()
            self.join(fn)

    def _restart(self) -> World:
        """Start new ranks to replace those that an example has ended; return their world."""
        self.end_world()
        self.case._start_processes(_LazyProcessFactory())
        assert self._lease is not None
        world = self._lease.world
        self._await_examples(ProcessWorld(world, self._restart, self._store_file))
        return world

    def _await_verdict(self, fn: Callable[[], Any]) -> tuple[Verdict, Leaks]:
        """Wait until the ranks have ended; return the verdict, and what they left running."""
        assert self._lease is not None
        world = self._lease.world
        limits = Limits(
            start_s=settings.START_TIMEOUT_S.value(),
            body_s=self.timeout_s,
            exit_s=settings.EXIT_TIMEOUT_S.value(),
            deadlock_s=settings.DEADLOCK_S.value(),
        )
        # Tests may set `special_return_code_checks` as late as in setUp, so the rule is made only
        # now.
        rule = self._exit_rule(fn)
        supervisor = Supervisor(world, limits, rule)
        with tracks.recording_tracks(supervisor, world.logs, rule, self.case._testMethodName):
            verdict = audited(judge(supervisor.run(), rule), settings.audit_only_warns())
        if verdict.faults:
            # A message without a receiver, say, would reach the next test that uses these ranks.
            world.is_clean = False
        # Before the verdict is raised, so that a failing test shows its warnings too.
        show_warnings(supervisor.ranks)
        running: list[Leftover] = []
        # A world that stays is still running, so only a world that ends can have leftovers. After a
        # failure they get no time to end by themselves.
        if not self._lease.stays:
            running = world.end_leftovers(0.0 if verdict.is_trouble else LEAVING_S)
        self._expectations = {rank.rank: rank.expectations for rank in supervisor.ranks}
        imported = imported_by(supervisor.ranks)
        if len(imported) >= _MIN_IMPORTS_TO_PRELOAD:
            launcher().learn(imported)
            ranks = self._torchrun_ranks()
            if ranks is not None:
                ranks.learn(imported)
        return verdict, Leaks(running, leftovers_text(supervisor.ranks))

    def _exit_rule(self, fn: Callable[[], Any]) -> ExitRule:
        return ExitRule(
            # An expected code of 0 is what every test has anyway.
            expected_code=self.case.special_return_code_checks.get(fn) or None,
            # An override of `_check_return_codes` asserts on the codes itself, so any code passes
            # here.
            any_code=fn in self.case.skip_return_code_checks or self._test_checks_exits,
        )

    def end_world(self) -> None:
        """End the ranks if they still run, for example if a later part of setUp failed."""
        # tearDown and the cleanup both get here; the second call finds no lease.
        lease, self._lease, self.case.processes = self._lease, None, []
        if lease is not None:
            lease.end()

    def kept_folder(self, verdict: Verdict) -> str:
        self._keep = settings.KEEP_FOLDERS.value() and verdict.is_trouble
        if not self._keep or self._folder is None:
            return ""
        # A reused world has a folder of its own, which outlives the test: copy what was written.
        if self._lease is not None:
            copy_logs(self._lease.world.folder, str(self._folder))
        return str(folders.kept_path(self._folder))

    def _remove_folder(self) -> None:
        folder, self._folder = self._folder, None
        if folder is not None and self._keep:
            folders.keep(folder)
        elif folder is not None:
            folders.remove(folder)


def check_return_codes(self: Any, fn: Callable[[], Any], elapsed_time: float) -> None:
    """Raise the verdict of the ranks.

    An override runs instead when all ranks have ended, unless one failed or skipped. It asserts on
    `self.processes[rank].exitcode`; an exit code that it does not assert on is accepted.
    """
    ranks_of(self).check_verdict()


class _LazyProcessFactory:
    """Creates rank processes; asks the launcher how when the first process is created.

    Asking may wait for the fork server, so the time limit for that starts only here.
    """

    def __init__(self) -> None:
        self._chosen: ProcessFactory | None = None

    def __call__(self, **kwargs: Any) -> Any:
        if self._chosen is None:
            deadline = Deadline.after(settings.START_TIMEOUT_S.value())
            self._chosen = launcher().factory(deadline)
        return self._chosen(**kwargs)
