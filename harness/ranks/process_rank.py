"""The handle on a rank that this process has started."""

from __future__ import annotations

import contextlib
import os
import weakref
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from harness.model.clock import Deadline, now
from harness.model.outcome import Ended, Lost
from harness.ranks import folders
from harness.ranks.channel import FrameReader, FrameWriter
from harness.ranks.handle import STACKS_SIGNAL, RankHandle
from harness.ranks.launch import quit_key
from harness.ranks.launch.forked_process import ForkedProcess
from harness.ranks.launch.start_method import SpawnedProcess
from harness.ranks.leftovers import running_ranks
from harness.ranks.live_output import LiveStream
from harness.ranks.messages import FromRank, ToRank, from_rank
from harness.ranks.outside_view import process_state
from harness.ranks.typed_message import read, to_data

# faulthandler writes no end marker, but it writes a dump without pauses. So a pause of this length
# means that the dump is complete.
_PAUSE_S = 0.03

# A rank that reads nothing for so long, with a full channel, is stopped or holds the GIL. The
# supervisor, which enforces the time limits, must not wait for it any longer.
_STALL_S = 30.0


class OwnRank(RankHandle):
    """One rank, started by this process.

    Args:
        rank: the rank.
        process: the process object, not yet started.
        connection: this process's end of the channel.
        stacks: path of the pipe to which it writes its stacks.
        streams: its output streams, if they are shown live.
    """

    def __init__(
        self,
        rank: int,
        process: BaseProcess,
        connection: Connection,
        stacks: str,
        streams: Sequence[LiveStream],
    ) -> None:
        super().__init__(rank, process)
        self._streams = streams
        self._connection = connection
        self._reader = FrameReader(connection.fileno())
        self._writer = FrameWriter(connection.fileno(), _STALL_S)
        self._pidfd: int | None = None
        with folders.making("the pipe of a rank", os.path.dirname(stacks)):
            os.mkfifo(stacks, mode=0o600)
        self._stacks_fd = os.open(stacks, os.O_RDONLY | os.O_NONBLOCK)

    @property
    def pid(self) -> int | None:
        return self.process.pid

    @property
    def exit_code(self) -> int | None:
        return self.process.exitcode

    def start(self) -> None:
        self.asked_s = now()
        with quit_key.blocked_in_new_processes():
            self.process.start()
        _handles.add(self)
        self._pidfd = _pidfd_of(self.process)
        running_ranks.add(self.process.pid or 0)

    @property
    def is_lost(self) -> bool:
        # Its fork server has died. The rank may still run.
        return bool(getattr(self.process, "is_lost", False))

    @property
    def outcome_if_lost(self) -> Lost | Ended:
        if isinstance(self.process, SpawnedProcess):
            return Lost("its parent ignores SIGCHLD, so its exit code is unknown")
        return Lost("the fork server died, so its exit code is unknown")

    @property
    def terminal_group(self) -> int:
        return self.pid or 0

    @property
    def exit_fd(self) -> int:
        # With spawn, multiprocessing's sentinel is a pipe (CPython 3.11 to 3.14). A process that
        # the rank has started may inherit it and hold it open after the rank has ended. A pidfd
        # does not have that flaw.
        return self.process.sentinel if self._pidfd is None else self._pidfd

    @property
    def open_fds(self) -> list[int]:
        channel = [] if self._reader.closed else [self._connection.fileno()]
        return [self.exit_fd, *channel, *(s.fd for s in self._streams if not s.closed)]

    def pass_on_output(self) -> None:
        for stream in self._streams:
            stream.pump()

    def end_output(self) -> None:
        for stream in self._streams:
            stream.end_of_test()

    def messages(self) -> list[FromRank]:
        return read(self._reader, from_rank)

    @property
    def fault(self) -> str:
        return self._reader.fault

    def state(self) -> str:
        return process_state(self.pid)

    def order(self, frame: bytes) -> None:
        with contextlib.suppress(OSError):
            self._writer.send_frame(frame)

    def ask(self, message: ToRank) -> bool:
        return self._writer.send_at_once(to_data(message))

    def written_stacks(self, deadline: Deadline) -> str:
        """Return the stacks that faulthandler writes; empty if it does not write in time.

        faulthandler does not need the GIL. But it can crash on the frames of a thread that runs
        Python code at that moment (CPython 3.11 to 3.14). So use this only for a rank that does not
        answer requests: some thread of it holds the GIL in native code.
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
            quiet = deadline.sooner(Deadline.after(_PAUSE_S))
        return data.decode("utf-8", "replace")

    def signal_group(self, number: int) -> None:
        if self.pid is None:
            return
        for send in (os.killpg, os.kill):
            try:
                send(self.pid, number)
            except (ProcessLookupError, PermissionError):
                continue

    def close_in_fork(self) -> None:
        """Close the descriptors that a fork of the parent has inherited."""
        self._connection.close()
        # The parent's end of the lifeline, at which a forked rank notices that its parent has gone.
        # multiprocessing keeps it in the arguments of a finalizer (CPython 3.11 to 3.14).
        popen = getattr(self.process, "_popen", None)
        for fd in getattr(getattr(popen, "finalizer", None), "_args", None) or ():
            for each in fd if isinstance(fd, list | tuple) else (fd,):
                with contextlib.suppress(OSError):
                    os.close(each)

    def close(self) -> None:
        _handles.discard(self)
        running_ranks.discard(self.process.pid or 0)
        self._connection.close()
        os.close(self._stacks_fd)
        for stream in self._streams:
            stream.close()
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None


_handles: weakref.WeakSet[OwnRank] = weakref.WeakSet()


def _close_in_fork() -> None:
    """Close, in a fork of the parent, the parent's ends of the channels and lifelines.

    Otherwise the ranks would not notice the parent's end as long as the fork lives.
    """
    for handle in _handles:
        handle.close_in_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_fork)


def _pidfd_of(process: BaseProcess) -> int | None:
    try:
        # Only for a direct child. The fork server reaps its own children and then writes their exit
        # codes to the sentinel. A pidfd would be readable before the exit code is known.
        if isinstance(process, ForkedProcess) or process.pid is None:
            return None
        return os.pidfd_open(process.pid)
    except (AttributeError, OSError):
        return None
