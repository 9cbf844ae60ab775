"""The processes of one world in the parent's hands: started, heard, signalled, reaped."""

from __future__ import annotations

import contextlib
import os
import signal
import weakref
from collections.abc import Iterator, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from harness.model import settings
from harness.model.clock import Deadline, now
from harness.model.spec import LaunchSpec
from harness.ranks.channel import FrameReader, FrameWriter, Message, encode
from harness.ranks.child_listener import STACKS_SIGNAL
from harness.ranks.child_main import rank_main
from harness.ranks.launcher import ProcessFactory
from harness.ranks.leftovers import Leftover, LeftoverWatch, ranks_at_work
from harness.ranks.live import LiveStream, live_streams
from harness.ranks.logs import empty, stacks_path

# After KILL, the kernel needs a moment to take a process down; one in uninterruptible sleep may
# need for ever, and the harness must not.
_REAP_S = 5.0
_PAUSE_S = 0.03


class RankHandle:
    """One rank as the parent sees it.

    Attributes:
        rank: the rank.
        is_new: whether it has run no test before the present one.
        asked_s: when it was asked to run the present one, on the clock.
    """

    def __init__(
        self,
        rank: int,
        process: BaseProcess,
        connection: Connection,
        stacks: str,
        streams: Sequence[LiveStream],
    ) -> None:
        """Of a process that is not yet started.

        Args:
            rank: the rank.
            process: the process to be.
            connection: the parent's end of the channel.
            stacks: path of the pipe to which it will write its stacks.
            streams: its output, if that is shown while it runs.
        """
        self.rank = rank
        self.is_new = True
        self.asked_s = now()
        self.streams = streams
        self.process = process
        self._connection = connection
        self._reader = FrameReader(connection.fileno())
        self._writer = FrameWriter(connection.fileno())
        self._pidfd: int | None = None
        os.mkfifo(stacks, mode=0o600)
        self._stacks_fd = os.open(stacks, os.O_RDONLY | os.O_NONBLOCK)

    def __repr__(self) -> str:
        return f"<rank {self.rank} pid {self.pid} exit code {self.process.exitcode}>"

    @property
    def pid(self) -> int | None:
        return self.process.pid

    @property
    def exit_code(self) -> int | None:
        """The exit code, negative for a signal; None while the process lives."""
        return self.process.exitcode

    def start(self) -> None:
        self.asked_s = now()
        self.process.start()
        _handles.add(self)
        self._pidfd = _pidfd_of(self.process)
        ranks_at_work.add(self.process.pid or 0)

    @property
    def is_lost(self) -> bool:
        """Whether its fork server has died: nobody knows its exit code, and it may still run."""
        return bool(getattr(self.process, "is_lost", False))

    @property
    def exit_fd(self) -> int:
        """Becomes readable when the process has ended.

        With spawn, multiprocessing's sentinel is a pipe that a process started by the rank may
        hold open beyond the rank's end; the kernel's own descriptor does not have that flaw.
        """
        return self.process.sentinel if self._pidfd is None else self._pidfd

    @property
    def open_fds(self) -> list[int]:
        """Those become readable when there is news of the rank: it has said something, or ended."""
        channel = [] if self._reader.closed else [self._connection.fileno()]
        return [self.exit_fd, *channel, *(s.fd for s in self.streams if not s.closed)]

    def pass_on_output(self) -> None:
        """Show what the rank has written since."""
        for stream in self.streams:
            stream.pump()

    def end_output(self) -> None:
        """Show what the rank has written by the end of a test, unfinished lines too."""
        for stream in self.streams:
            stream.end_of_test()

    def messages(self) -> Iterator[Message]:
        yield from self._reader.read()

    def order(self, frame: bytes) -> None:
        """Tell the rank what it awaits to be told."""
        with contextlib.suppress(OSError):  # it has died, which its exit code will tell
            self._writer.send_frame(frame)

    def ask(self, message: Message) -> bool:
        """Put a question to the rank, if it still listens; one that does not is not waited for."""
        return self._writer.send_at_once(message)

    def written_stacks(self, deadline: Deadline) -> str:
        """What faulthandler writes of the rank's threads, whoever holds the GIL; empty if nothing.

        Only for a rank that runs no Python code: faulthandler reads the frames as they are, and has
        been seen to crash on those of a thread that goes on meanwhile. A rank that does run some
        can answer a question.
        """
        if self.pid is None:
            return ""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(self.pid, STACKS_SIGNAL)
        data, quiet = b"", deadline
        while wait([self._stacks_fd], quiet.remaining_s()):
            chunk = os.read(self._stacks_fd, 1 << 16)
            if not chunk:
                break
            data += chunk
            # It does not say when it has finished, but writes without a pause.
            quiet = deadline.sooner(Deadline.after(_PAUSE_S))
        return data.decode("utf-8", "replace")

    def signal_group(self, number: int) -> None:
        """Signal the rank and every process that it has started in its process group."""
        if self.pid is None:
            return
        for send in (os.killpg, os.kill):
            try:
                send(self.pid, number)
            except (ProcessLookupError, PermissionError):
                continue

    def let_go(self) -> None:
        """Close, in a fork of the parent, the channel and the lifeline."""
        self._connection.close()
        popen = getattr(self.process, "_popen", None)
        for fd in getattr(getattr(popen, "finalizer", None), "_args", None) or ():
            for each in fd if isinstance(fd, list | tuple) else (fd,):
                with contextlib.suppress(OSError):
                    os.close(each)

    def close(self) -> None:
        _handles.discard(self)
        ranks_at_work.discard(self.process.pid or 0)
        self._connection.close()
        os.close(self._stacks_fd)
        for stream in self.streams:
            stream.close()
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None


_handles: weakref.WeakSet[RankHandle] = weakref.WeakSet()


def _let_go_in_a_fork() -> None:
    """Close what ties the ranks to this process's parent, whose they are.

    A fork that lives on would otherwise keep them from noticing that the parent has gone.
    """
    for handle in _handles:
        handle.let_go()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go_in_a_fork)


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
    """All ranks of one world.

    Attributes:
        folder: where it keeps its files: the test's folder, unless the ranks stay.
        handles: the ranks, in order.
        is_idle: whether all ranks wait for another test.
        is_clean: whether, besides, they are as they were before the last one.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.handles: list[RankHandle] = []
        self.is_idle = self.is_clean = False
        self._leftovers = LeftoverWatch(folder)

    @classmethod
    def start(cls, spec: LaunchSpec, factory: ProcessFactory) -> World:
        """Start a process for each rank. If one cannot be started, the others are ended."""
        world = cls(spec.world_folder)
        try:
            with world._leftovers.marked():
                for rank in range(spec.world_size):
                    world._start_rank(spec, rank, factory)
        except BaseException:
            world.end(grace_s=0.0)
            world.close()
            raise
        return world

    def _start_rank(self, spec: LaunchSpec, rank: int, factory: ProcessFactory) -> None:
        ours, theirs = Pipe(duplex=True)
        live = settings.LIVE_OUTPUT.value()
        streams = live_streams(spec.world_folder, rank) if live else []
        given = [theirs, *(stream.for_rank for stream in streams)]
        arguments = (spec, rank, theirs, given[1:])
        process: Any = factory(target=rank_main, name=f"rank {rank}", args=arguments)
        stacks = stacks_path(spec.world_folder, rank)
        handle = RankHandle(rank, process, ours, stacks, streams)
        try:
            handle.start()
        except BaseException:
            handle.close()
            raise
        finally:
            for connection in given:
                connection.close()
        self.handles.append(handle)

    def run(self, spec: LaunchSpec) -> None:
        """Have ranks that stay run another test."""
        self.go_on({"kind": "run", "spec": spec.to_data()})

    def go_on(self, order: Message) -> None:
        """Tell ranks that wait for it what to do next."""
        self.is_idle = self.is_clean = False
        frame = encode(order)
        for handle in self.handles:
            handle.is_new = False
            handle.pass_on_output()
            empty(self.folder, handle.rank)
            handle.asked_s = now()
            handle.order(frame)

    def end_output(self) -> None:
        """Show what the ranks have written by the end of their test."""
        for handle in self.handles:
            handle.end_output()

    def dismiss(self, limit_s: float, grace_s: float) -> list[RankHandle]:
        """Have ranks that wait for another test leave as a test's ranks do; end those that do not.

        Args:
            limit_s: seconds that they may take.
            grace_s: seconds between TERM and KILL for those that take longer.

        Returns:
            those that did not leave with 0.
        """
        for handle in self.handles:
            handle.ask({"kind": "leave"})
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
        """End what still runs: TERM to every group, the grace, KILL, a bounded wait.

        Args:
            grace_s: seconds between TERM and KILL.

        Returns:
            the handles of processes that even KILL did not end within the bound.
        """
        for handle in self.handles:
            if handle.is_lost:
                handle.signal_group(signal.SIGKILL)
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

    def end_leftovers(self, grace_s: float = 0.0) -> list[Leftover]:
        """End what the ranks, which must have ended, have left running; returns what it was.

        Args:
            grace_s: how long it may take to end by itself.
        """
        ranks = {handle.pid: handle.rank for handle in self.handles if handle.pid is not None}
        return self._leftovers.end(ranks, grace_s)

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
