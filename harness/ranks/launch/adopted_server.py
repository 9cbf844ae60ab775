"""Let a worker fork its ranks from the fork server that has forked the worker.

The runner forks its workers from a fork server that has imported all that tests and ranks need. The
workers fork their ranks from the same server, so a run imports everything only once.
"""

from __future__ import annotations

import os
import sys
from multiprocessing import forkserver, resource_tracker
from typing import Any

from harness.model.clock import Deadline
from harness.ranks.descriptors import OwnDescriptor, readable
from harness.ranks.launch.forked_process import ForkedProcess
from harness.ranks.launch.preload import plan_of_this_server
from harness.ranks.launch.preload_plan import PreloadPlan, PreloadReport, covers


class _Inherited(forkserver.ForkServer):
    """The standard library's handle on the server that has forked this process."""

    def __init__(self) -> None:
        super().__init__()
        inherited = vars(forkserver._forkserver)
        vars(self).update({k: v for k, v in inherited.items() if k != "_lock"})

    def ensure_running(self) -> None:
        # The standard library would start another server: this process has not started this one.
        resource_tracker.ensure_running()


class AdoptedServer:
    """The interface of `ForkServer` for a process that the server itself has forked."""

    def __init__(self) -> None:
        plan = plan_of_this_server()
        assert plan is not None, "this process is no fork of a fork server"
        self.plan: PreloadPlan = plan
        self.stdlib_server = _Inherited()
        self._report = PreloadReport(imported=frozenset(sys.modules))
        self._pid = os.getpid()
        self._death = OwnDescriptor(os.pidfd_open(os.getppid()), "a handle on the fork server")

    @property
    def alive(self) -> bool:
        """False once the server has died, and in a fork of this process."""
        if self._pid != os.getpid() or not self._death.is_intact:
            return False
        return not readable([self._death.fd], Deadline.after(0.0))

    def has_answered(self) -> bool:
        return True

    def report(self, deadline: Deadline) -> PreloadReport:
        return self._report

    def covers(self, wanted: PreloadPlan) -> bool:
        """Whether the server has imported everything in the plan."""
        return covers(self.plan, self._report, wanted)

    def process(self, **kwargs: Any) -> ForkedProcess:
        """Return a new process of this server, not started; arguments as for BaseProcess."""
        return ForkedProcess(self.stdlib_server, **kwargs)

    @property
    def idle(self) -> bool:
        """Return False: the server does not belong to this process, which must not end it."""
        return False

    def kill(self) -> None:
        """Do nothing: the process that started the server ends it."""
