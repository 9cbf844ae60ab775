"""The processes of one world in the parent's hands: started, heard, signalled, reaped."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from harness.model.clock import Deadline
from harness.model.spec import LaunchSpec
from harness.ranks.channel import FrameReader, FrameWriter, Message
from harness.ranks.child_main import rank_main
from harness.ranks.launcher import ProcessFactory

# After KILL, the kernel needs a moment to take a process down; one in uninterruptible sleep may
# need for ever, and the harness must not.
_REAP_S = 5.0


class RankHandle:
    """One rank as the parent sees it."""

    def __init__(self, rank: int, process: BaseProcess, connection: Connection) -> None:
        self.rank = rank
        self.process = process
        self._connection = connection
        self._reader = FrameReader(connection.fileno())
        self._writer = FrameWriter(connection.fileno())
        self._pidfd: int | None = None

    def __repr__(self) -> str:
        return f"<rank {self.rank} pid {self.pid} exit code {self.process.exitcode}>"

    @property
    def pid(self) -> int | None:
        return self.process.pid

    @property
    def exit_code(self) -> int | None:
        """The exit code, negative for a signal; None while the process lives."""
        return self.process.exitcode

    def start(self, child_end: Connection) -> None:
        self.process.start()
        child_end.close()
        self._pidfd = _pidfd_of(self.process)

    @property
    def exit_fd(self) -> int:
        """Becomes readable when the process has ended.

        With spawn, multiprocessing's sentinel is a pipe that a process started by the rank may
        hold open beyond the rank's end; the kernel's own descriptor does not have that flaw.
        """
        return self.process.sentinel if self._pidfd is None else self._pidfd

    @property
    def channel_fd(self) -> int | None:
        """Becomes readable when the rank has said something; None once it has hung up."""
        return None if self._reader.closed else self._connection.fileno()

    def messages(self) -> Iterator[Message]:
        yield from self._reader.read()

    def send(self, message: Message) -> None:
        """Tell the rank something; a rank that has gone cannot be told."""
        try:
            self._writer.send(message)
        except OSError:
            return

    def signal_group(self, number: int) -> None:
        """Signal the rank and every process that it has started in its process group."""
        if self.pid is None:
            return
        for send in (os.killpg, os.kill):
            try:
                send(self.pid, number)
            except (ProcessLookupError, PermissionError):
                continue

    def close(self) -> None:
        self._connection.close()
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None


def _pidfd_of(process: BaseProcess) -> int | None:
    try:
        # Only a direct child: the fork server's children are reaped, and their exit codes read,
        # by the server, whose sentinel comes after that.
        if type(process).__module__.endswith("fork_server") or process.pid is None:
            return None
        return os.pidfd_open(process.pid)
    except (AttributeError, OSError):
        return None


class World:
    """All ranks of one world."""

    def __init__(self, handles: list[RankHandle]) -> None:
        self.handles = handles

    @classmethod
    def start(cls, spec: LaunchSpec, factory: ProcessFactory) -> World:
        """Start a process for each rank. If one cannot be started, the others are ended."""
        world = cls([])
        try:
            for rank in range(spec.world_size):
                ours, theirs = Pipe(duplex=True)
                process: Any = factory(
                    target=rank_main, name=f"rank {rank}", args=(spec, rank, theirs)
                )
                handle = RankHandle(rank, process, ours)
                handle.start(theirs)
                world.handles.append(handle)
        except BaseException:
            world.end(grace_s=0.0)
            raise
        return world

    @property
    def processes(self) -> list[BaseProcess]:
        return [handle.process for handle in self.handles]

    def living(self) -> list[RankHandle]:
        return [handle for handle in self.handles if handle.exit_code is None]

    def end(self, grace_s: float) -> list[RankHandle]:
        """End what still runs: TERM to every group, the grace, KILL, a bounded wait.

        Args:
            grace_s: seconds between TERM and KILL.

        Returns:
            the handles of processes that even KILL did not end within the bound.
        """
        living = self.living()
        if grace_s > 0:
            for handle in living:
                handle.signal_group(signal.SIGTERM)
                # A stopped process gets TERM only once it goes on.
                handle.signal_group(signal.SIGCONT)
            living = _await_exit(living, Deadline.after(grace_s))
        for handle in living:
            handle.signal_group(signal.SIGKILL)
        return _await_exit(living, Deadline.after(_REAP_S))

    def close(self) -> None:
        """Give back the descriptors. The processes must have ended."""
        for handle in self.handles:
            handle.close()


def _await_exit(handles: list[RankHandle], deadline: Deadline) -> list[RankHandle]:
    """Wait until the processes have ended or the time is up; returns those that have not."""
    left = [handle for handle in handles if handle.exit_code is None]
    while left and not deadline.expired:
        wait([handle.exit_fd for handle in left], deadline.remaining_s())
        left = [handle for handle in left if handle.exit_code is None]
    return left
