"""Start, replace and end workers: forks of the preloaded fork server, or fresh interpreters."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from harness.model import invocation, settings
from harness.model.clock import Deadline, now
from harness.model.cores import core_count
from harness.model.surroundings import Surroundings
from harness.ranks import folders
from harness.ranks.launch.launcher import launcher
from harness.ranks.logs import STREAMS
from harness.runner.workers.worker import Worker
from harness.runner.workers.worker_spec import Wanted, WorkerSpec


class WorkerStarter:
    """Starts the workers of a run.

    Args:
        wanted: which tests the run is about.
        jobs: how many workers run at a time.
        capture: whether to capture the output of tests; otherwise it is printed at once.
        failfast: whether a test ends at its first failing subtest.
    """

    def __init__(self, wanted: Wanted, jobs: int, *, capture: bool, failfast: bool) -> None:
        self._wanted = wanted
        self._jobs = jobs
        self._capture = capture
        self._failfast = failfast
        self._count = 0
        self._has_preloaded = False

    def start(self, number: int) -> Worker:
        """Return a new worker with this number."""
        deadline = Deadline.after(settings.START_TIMEOUT_S.value())
        spec = self._spec(number, deadline)
        while True:
            factory = launcher().factory(deadline)
            try:
                return Worker(spec, self._wanted, factory, launcher().advance())
            except (EOFError, ConnectionError):  # the fork server died; the next try starts another
                if deadline.expired:
                    raise

    def _spec(self, number: int, deadline: Deadline) -> WorkerSpec:
        self._count += 1
        session = folders.session_folder()
        output = session / f"output-{self._count}"
        with folders.making("the folders of a worker", session):
            output.mkdir(mode=0o700)
            for name in STREAMS if self._capture else ():
                (output / name).touch(mode=0o600)
            (session / f"w{self._count}").mkdir(mode=0o700)
        return WorkerSpec(
            number=number,
            session=str(session),
            short_session=str(folders.short_session_folder()),
            folder=f"w{self._count}",
            output=str(output) if self._capture else "",
            last_record=str(output / "last-record"),
            # The fork server was started earlier, and may have another environment by now.
            surroundings=Surroundings.now(),
            # Otherwise the workers' torch threads together would be many times the cores.
            threads=max(1, core_count() // self._jobs) if self._jobs > 1 else 0,
            unsafe=launcher().why_not_to_fork(deadline),
            terminal=os.getpgrp(),
            command=tuple(invocation.runner()),
            started_in=invocation.folder(),
            failfast=self._failfast,
        )

    def preload(self, modules: Iterable[str]) -> None:
        """Fork later workers from a server that has imported these modules too."""
        launcher().learn(modules)
        self._has_preloaded = True

    def has_newer_server(self, worker: Worker) -> bool:
        """Whether a new worker would be forked from a server that has imported more modules."""
        return self._has_preloaded and worker.server is not launcher().advance()


class Workers:
    """The worker processes of a run: those that take tests, and those that are exiting.

    Args:
        starter: starts them.

    Attributes:
        active: the workers that take tests.
        leaving: workers that were told to exit, and have not exited yet.
    """

    def __init__(self, starter: WorkerStarter) -> None:
        self._starter = starter
        self.active: list[Worker] = []
        self.leaving: list[Worker] = []

    @property
    def all(self) -> list[Worker]:
        return [*self.active, *self.leaving]

    def start(self, number: int) -> Worker:
        """Start a worker with this number."""
        worker = self._starter.start(number)
        self.active.append(worker)
        return worker

    def replace(self, worker: Worker) -> Worker:
        """Tell a worker to exit, and return a new one with its number."""
        self.active.remove(worker)
        worker.leave(settings.EXIT_TIMEOUT_S.value())
        self.leaving.append(worker)
        return self.start(worker.number)

    def leave(self) -> None:
        """Tell all workers to exit."""
        # They tear down fixtures and run exit handlers first, which have no time limit of their
        # own. This limit only has to end those that hang.
        limit_s = settings.EXIT_TIMEOUT_S.value() + settings.START_TIMEOUT_S.value() / 10
        for worker in self.active:
            worker.leave(limit_s)
        self.leaving += self.active
        self.active = []

    def remove(self, worker: Worker) -> bool:
        """Remove a worker that has ended; return whether it was told to exit."""
        was_leaving = worker in self.leaving
        (self.leaving if was_leaving else self.active).remove(worker)
        return was_leaving

    def kill(self) -> None:
        """End all workers at once."""
        for worker in self.all:
            worker.kill()

    def suspend_during(self, wait: Callable[[], None]) -> None:
        """Stop all workers while `wait` runs; their deadlines move by this time.

        After Ctrl-Z, the terminal stops only the runner's own process group. Each worker has a
        group of its own, so the runner has to stop it.
        """
        began_s, workers = now(), self.all
        for worker in workers:
            worker.suspend()
        wait()
        for worker in workers:
            worker.resume(now() - began_s)
