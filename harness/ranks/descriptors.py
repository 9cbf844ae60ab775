"""The file descriptors of this process: which are open, which have something to read, and which of
the harness's own a test has closed.

A test may close any descriptor, or have another file under its number: it runs in a process that
has some of the harness's. The harness must neither wait for such a descriptor, nor read, write or
close the file that the test has put in its place.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import select
import stat
from collections.abc import Iterable, Iterator

from harness.model.clock import Deadline

#: The terminal of this process's session, if it has one.
TERMINAL = "/dev/tty"
#: How soon a process notices that a test has closed its channel and goes on, in milliseconds.
LOOK_MS = 500


class OwnDescriptor:
    """A descriptor that the harness needs in a process that runs tests, until it is closed.

    Args:
        fd: the descriptor.
        use: what it is: "the worker's channel to the runner".

    Attributes:
        fd, use: these.
    """

    def __init__(self, fd: int, use: str) -> None:
        self.fd, self.use = fd, use
        self._file = file_behind(fd)
        _own.append(self)

    @property
    def is_intact(self) -> bool:
        """Whether the number still stands for the same file."""
        try:
            return file_behind(self.fd) == self._file
        except OSError:
            return False

    def close(self) -> None:
        """Close the descriptor, unless a test has done so."""
        self.forget()
        if self.is_intact:
            os.close(self.fd)

    def forget(self) -> None:
        """Need it no longer. That a test has closed it meanwhile is still to be told."""
        if self in _own:
            _own.remove(self)
            if not self.is_intact:
                _lost.append(self)


_own: list[OwnDescriptor] = []
_lost: list[OwnDescriptor] = []


def _let_go_in_a_fork() -> None:
    """They are the parent's business."""
    _own.clear()
    _lost.clear()


os.register_at_fork(after_in_child=_let_go_in_a_fork)


def file_behind(fd: int) -> tuple[int, int, int]:
    """Return what tells the file of a descriptor from others. Raises OSError if it is closed."""
    about = os.fstat(fd)
    return stat.S_IFMT(about.st_mode), about.st_dev, about.st_ino


def duplicate_high(fd: int) -> int:
    """Return a duplicate with a high number, for what should outlive a test that closes others.

    Programs that close "all" descriptors mostly begin at 3 and end at 256 or 1024. It is not the
    highest number: a fork copies the table up to there.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    first = _HIGH if limit == resource.RLIM_INFINITY else max(3, min(_HIGH, limit - 8))
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, first)


_HIGH = 4000


def lost_descriptors() -> list[OwnDescriptor]:
    """Return those of the harness's own that are gone since the last call; they are forgotten."""
    for own in [own for own in _own if not own.is_intact]:
        own.forget()
    lost = _lost[:]
    _lost.clear()
    return lost


def lost_descriptors_message(lost: Iterable[OwnDescriptor]) -> str:
    """Return what to report of a test that has closed these."""
    by_use: dict[str, list[str]] = {}
    for own in lost:
        by_use.setdefault(own.use, []).append(str(own.fd))
    each = [f"{' and '.join(fds)} ({use})" for use, fds in by_use.items()]
    word = "descriptor" if [len(fds) for fds in by_use.values()] == [1] else "descriptors"
    return (
        f"DescriptorClosed: the test closed file {word} {', '.join(each)}: "
        "close only what the test has opened, or close all in a child process"
    )


def readable(descriptors: Iterable[int], deadline: Deadline) -> set[int]:
    """Wait until some have something to read, or have come to their end.

    By the kernel's plain poll, since it is done many times a test.

    Returns:
        those; empty at the deadline.
    """
    poller = select.poll()
    for descriptor in descriptors:
        poller.register(descriptor, select.POLLIN)
    remaining = deadline.remaining_s()
    events = poller.poll(None if remaining is None else remaining * 1000)
    return {descriptor for descriptor, _ in events}


def open_files() -> Iterator[tuple[str, str]]:
    """The open descriptors, as text, and what they are of; none where it is not Linux."""
    try:
        descriptors = os.listdir("/proc/self/fd")
    except FileNotFoundError:
        return
    for descriptor in descriptors:
        # The one that listed them, at least, has been closed meanwhile.
        with contextlib.suppress(OSError):
            yield descriptor, os.readlink(f"/proc/self/fd/{descriptor}")
