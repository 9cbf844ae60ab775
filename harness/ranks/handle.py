"""One rank in the hands of the process that has started it: heard, asked, signalled."""

from __future__ import annotations

import contextlib
import os
import weakref
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from harness.model.clock import Deadline, now
from harness.model.outcome import Ended, Lost
from harness.ranks.channel import FrameReader, FrameWriter, Message
from harness.ranks.child_listener import STACKS_SIGNAL
from harness.ranks.leftovers import ranks_at_work
from harness.ranks.live import LiveStream
from harness.ranks.looks import process_state

_PAUSE_S = 0.03

# Who takes nothing for so long, though the channel is full, is stopped or holds the GIL; nobody
# else shall wait for it, least of all the one who watches the clock.
_STALL_S = 30.0


class RankHandle:
    """One rank as the parent sees it.

    Attributes:
        rank: the rank.
        is_new: whether it has run no test before the present one.
        asked_s: when it was asked to run the present one, on the clock.
        host, local_rank: where it is, if there are several hosts.
    """

    host = ""
    local_rank: int | None = None

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
        self._writer = FrameWriter(connection.fileno(), _STALL_S)
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
    def outcome_if_lost(self) -> Lost | Ended:
        """What became of it then."""
        return Lost("the fork server died, and with it the rank's exit code")

    @property
    def terminal_group(self) -> int:
        """The process group to which a terminal can be given; 0 if that is out of reach."""
        return self.pid or 0

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

    def state(self) -> str:
        """The operating system's word for what the process does; empty if there is none."""
        return process_state(self.pid)

    def order(self, frame: bytes) -> None:
        """Tell the rank what it awaits to be told.

        One that has died, or does not listen, misses it: its exit code, or a deadline, will tell.
        """
        with contextlib.suppress(OSError):
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
