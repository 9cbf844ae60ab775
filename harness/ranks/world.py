"""Start, message, signal and reap the processes of one world.

A world knows nothing about outcomes: `watch/supervisor.py` decides when it ends. What it guarantees
is that after `end()` no process of the world runs, and after `close()` no descriptor is open.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from multiprocessing import Pipe
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Self

import msgspec

from harness.model import settings
from harness.model.clock import Deadline, now
from harness.model.spec import LaunchSpec
from harness.ranks import folders
from harness.ranks.child.main import rank_main
from harness.ranks.handle import RankHandle
from harness.ranks.launch.launcher import ProcessFactory
from harness.ranks.leftovers import Leftover, LeftoverFinder
from harness.ranks.live_output import live_streams
from harness.ranks.logs import WorldLogs, empty, make_logs, stacks_path
from harness.ranks.messages import Leave, NoMoreExamples, RunExample, RunTest, ToRank
from harness.ranks.outside_view import Inspection, InspectionRequest, inspect_ranks
from harness.ranks.process_rank import OwnRank
from harness.ranks.stores import LOOPBACK, serve
from harness.ranks.typed_message import frame

# After SIGKILL, the kernel needs a moment to end a process. One in uninterruptible sleep may never
# end, so the harness gives up after this.
_REAP_S = 5.0
#: Seconds between SIGTERM and SIGKILL. Only a test's own signal handlers could use more.
TERM_GRACE_S = 0.1
# Longer values go through a file. Otherwise a rank that does not read would block its parent, which
# waits for room in the channel.
_MAX_IN_CHANNEL = 24 * 1024
_VALUES = "values-of-the-example"

# States of a world, as its attributes show them:
#
#   busy            not is_idle, not awaits_example   a test or an example runs
#   idle            is_idle                           every rank waits for RunTest or Leave
#   between         awaits_example                    every rank waits for RunExample or
#   examples                                          NoMoreExamples
#   ended           no handle in living()             only end_leftovers() and close() may follow
#
# begin(), run() and resume() -> busy. The supervisor sets is_idle or awaits_example once all ranks
# have reported that they wait. request_exit() and end() -> ended.


class World:
    """All ranks of one world.

    Attributes:
        folder: where it keeps its files: the test's folder, unless the ranks stay.
        handles: the ranks, in order.
        is_idle: whether all ranks wait for another test.
        awaits_example: whether all ranks wait for another example of the property test that they
            run; they cannot run another test then.
        is_clean: whether the last test has left no change of state behind.
        logs: the output of the ranks.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        #: The address of this host on which its stores listen.
        self.address_of_stores = LOOPBACK
        self._store: Any = None
        self.logs = WorldLogs(folder)
        self.handles: list[RankHandle] = []
        self.is_idle = self.awaits_example = self.is_clean = False
        self._leftovers = LeftoverFinder(folder)

    @classmethod
    def start(cls, spec: LaunchSpec, factory: ProcessFactory) -> World:
        """Start a process for each rank. If one cannot be started, end the others."""
        return cls(spec.world_folder).begin(spec, factory, range(spec.world_size))

    def begin(self, spec: LaunchSpec, factory: ProcessFactory, ranks: Iterable[int]) -> Self:
        """Start these ranks of a test. If one cannot be started, end the others."""
        try:
            spec = self._with_store(spec)
            with self._leftovers.marked():
                for rank in ranks:
                    self._start_rank(spec, rank, factory)
        except BaseException:
            self.end(grace_s=0.0)
            self.close()
            raise
        return self

    def _start_rank(self, spec: LaunchSpec, rank: int, factory: ProcessFactory) -> None:
        ours, theirs = Pipe(duplex=True)
        live = settings.LIVE_OUTPUT.value()
        streams = live_streams(spec.world_folder, rank) if live else []
        if not live:
            # The parent makes the logs, since it can report a full disk in one sentence. A rank
            # without logs could not report anything.
            with folders.making("the logs of a rank", spec.world_folder):
                make_logs(spec.world_folder, rank)
        inherited = [theirs, *(stream.for_rank for stream in streams)]
        arguments = (spec, rank, theirs, inherited[1:])
        process: Any = factory(target=rank_main, name=f"rank {rank}", args=arguments)
        stacks = stacks_path(spec.world_folder, rank)
        handle = OwnRank(rank, process, ours, stacks, streams)
        try:
            handle.start()
        except BaseException:
            handle.close()
            raise
        finally:
            # The rank has its own copies. While this process held them open, too, it would not see
            # the end of the streams when the rank exits.
            for connection in inherited:
                connection.close()
        self.handles.append(handle)

    def run(self, spec: LaunchSpec) -> None:
        """Make idle ranks run another test."""
        spec = self._with_store(spec)
        self._mark_busy()
        for handle in self.handles:
            self._send_test(handle, spec)

    def resume(self, order: RunExample | NoMoreExamples) -> None:
        """Send the next order to the ranks of a property test, which wait for it."""
        self._mark_busy()
        if isinstance(order, RunExample):
            order = self._with_short_values(order)
        for handle in self.own_handles:
            self._order(handle, order)

    def _mark_busy(self) -> None:
        self.is_idle = self.awaits_example = self.is_clean = False

    def _with_short_values(self, order: RunExample) -> RunExample:
        path = Path(self.folder, _VALUES)
        path.unlink(missing_ok=True)  # the file of the previous order
        if order.values is None or len(order.values) <= _MAX_IN_CHANNEL:
            return order
        path.write_bytes(order.values)
        return msgspec.structs.replace(order, values=None, values_file=str(path))

    def _send_test(self, handle: RankHandle, spec: LaunchSpec) -> None:
        self._order(handle, RunTest(spec))

    def _order(self, handle: RankHandle, order: ToRank) -> None:
        handle.is_new = False
        handle.pass_on_output()
        empty(self.folder, handle.rank)
        handle.asked_s = now()
        handle.order(frame(order))

    def _with_store(self, spec: LaunchSpec) -> LaunchSpec:
        """Return the spec with a new store at MASTER_PORT, if ranks get torchrun's variables."""
        if not spec.node_sizes or spec.master_port:
            return spec
        self._store = serve(host=self.address_of_stores)
        port = self._store.port
        return replace(spec, master_port=port, store_port=spec.store_port or port)

    def inspect(self, requests: Mapping[int, InspectionRequest]) -> dict[int, Inspection]:
        """Inspect ranks from outside; return the results by rank."""
        return inspect_ranks(self.own_handles, requests)

    @property
    def own_handles(self) -> Sequence[OwnRank]:
        """Return the ranks that this process has started."""
        return [handle for handle in self.handles if isinstance(handle, OwnRank)]

    def end_output(self) -> None:
        """Show the rest of the ranks' output at the end of their test."""
        for handle in self.handles:
            handle.end_output()

    def request_exit(self, limit_s: float, grace_s: float) -> list[RankHandle]:
        """Ask idle ranks to exit; end those that do not.

        Args:
            limit_s: time limit for their exit, in seconds.
            grace_s: seconds between SIGTERM and SIGKILL for ranks that take longer.

        Returns:
            the ranks whose exit code is not 0.
        """
        for handle in self.handles:
            handle.ask(Leave())
        _await_exit(self.handles, Deadline.after(limit_s))
        odd = [handle for handle in self.handles if handle.exit_code != 0]
        self.end(grace_s)
        return odd

    @property
    def processes(self) -> list[BaseProcess]:
        return [handle.process for handle in self.handles]

    def living(self) -> list[RankHandle]:
        return [handle for handle in self.handles if handle.exit_code is None]

    def end(self, grace_s: float) -> list[RankHandle]:
        """End all ranks that still run: SIGTERM, the grace period, SIGKILL, a bounded wait.

        Args:
            grace_s: seconds between SIGTERM and SIGKILL.

        Returns:
            the ranks that did not end even after SIGKILL.
        """
        # A lost rank has no exit code here, though its process may still run: no wait, no grace.
        for handle in self.handles:
            if handle.is_lost:
                handle.signal_group(signal.SIGKILL)
        living = self.living()
        if grace_s > 0:
            for handle in living:
                handle.signal_group(signal.SIGTERM)
                # A stopped process handles SIGTERM only after SIGCONT.
                handle.signal_group(signal.SIGCONT)
            living = _await_exit(living, Deadline.after(grace_s))
        for handle in living:
            handle.signal_group(signal.SIGKILL)
        return _await_exit(living, Deadline.after(_REAP_S))

    def end_at_once(self) -> None:
        """End the ranks and the processes that they left running, and close the descriptors."""
        self.end(grace_s=0.0)
        self.end_leftovers()
        self.close()

    def end_leftovers(self, grace_s: float = 0.0) -> list[Leftover]:
        """End the processes that the ranks left running; return them. The ranks must have ended.

        Args:
            grace_s: seconds in which these processes may end by themselves.
        """
        ranks = {handle.pid: handle.rank for handle in self.own_handles if handle.pid is not None}
        return self._leftovers.end(ranks, grace_s)

    def close(self) -> None:
        """Close the descriptors. The processes must have ended."""
        self._store = None
        for handle in self.handles:
            handle.close()


def _await_exit(handles: list[RankHandle], deadline: Deadline) -> list[RankHandle]:
    """Wait until the processes have ended or the time is up; return those that have not."""
    left = [handle for handle in handles if handle.exit_code is None]
    while left and not deadline.expired:
        wait([handle.exit_fd for handle in left], deadline.remaining_s())
        left = [handle for handle in left if handle.exit_code is None]
    return left
