"""Starts workers: out of the preloaded fork server, or as fresh interpreters."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

from harness.model import invocation, settings
from harness.model.clock import Deadline
from harness.model.cores import core_count
from harness.ranks import folders
from harness.ranks.launch.launcher import launcher
from harness.ranks.logs import STREAMS
from harness.runner.workers.worker import Worker
from harness.runner.workers.worker_spec import Wanted, WorkerSpec


class Hiring:
    """Where the workers of a run come from.

    Args:
        wanted: which tests the run is about.
        jobs: how many workers there are at a time.
        capture: keep what tests print, rather than have it printed at once.
        failfast: have tests end at their first sub-test that fails.
    """

    def __init__(self, wanted: Wanted, jobs: int, *, capture: bool, failfast: bool) -> None:
        self._wanted = wanted
        self._jobs = jobs
        self._capture = capture
        self._failfast = failfast
        self._count = 0
        self._has_learned = False

    def start(self, number: int) -> Worker:
        """A new worker with this number."""
        deadline = Deadline.after(settings.START_TIMEOUT_S.value())
        spec = self._spec(number, deadline)
        while True:
            factory = launcher().factory(deadline)
            try:
                return Worker(spec, self._wanted, factory, launcher().advance())
            except (EOFError, ConnectionError):  # the fork server dies just now
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
            environ=dict(os.environ),
            cwd=os.getcwd(),
            sys_path=tuple(entry or os.getcwd() for entry in sys.path),
            argv=tuple(sys.argv),
            threads=max(1, core_count() // self._jobs) if self._jobs > 1 else 0,
            unsafe=launcher().why_not_to_fork(deadline),
            terminal=os.getpgrp(),
            command=tuple(invocation.runner()),
            started_in=invocation.folder(),
            failfast=self._failfast,
        )

    def learn(self, modules: Iterable[str]) -> None:
        """Have workers to come out of a server that has imported these, too."""
        launcher().learn(modules)
        self._has_learned = True

    def has_better(self, worker: Worker) -> bool:
        """Whether a new worker would come out of a server that has imported more."""
        return self._has_learned and worker.server is not launcher().advance()
