"""Track the file descriptors of this process: open, readable, or closed by a test.

A test runs in a process that has descriptors of the harness. It may close any of them, and its own
file may then get the same number. The harness must not wait for such a descriptor, and must not
read, write or close the file that has taken its place.
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
#: How often a process checks whether a test has closed its channel, in milliseconds. poll() does
#: not report that a descriptor was closed by another thread.
CHANNEL_CHECK_MS = 500


class OwnDescriptor:
    """A descriptor that the harness needs in a process that runs tests, until it is closed.

    Args:
        fd: the descriptor.
        use: a description for messages: "the worker's channel to the runner".

    Attributes:
        fd, use: these.
    """

    def __init__(self, fd: int, use: str) -> None:
        self.fd, self.use = fd, use
        self._file = file_behind(fd)
        _own.append(self)

    @property
    def is_intact(self) -> bool:
        """Whether the number still refers to the same file."""
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
        """Stop tracking the descriptor; if a test has closed it, that is still reported."""
        if self in _own:
            _own.remove(self)
            if not self.is_intact:
                _lost.append(self)


# The descriptors in use, and those that a test has closed and that no report has named yet.
_own: list[OwnDescriptor] = []
_lost: list[OwnDescriptor] = []


def _forget_in_fork() -> None:
    """Forget the descriptors in a fork: they belong to the parent."""
    _own.clear()
    _lost.clear()


os.register_at_fork(after_in_child=_forget_in_fork)


def file_behind(fd: int) -> tuple[int, int, int]:
    """Return what identifies the file behind a descriptor. Raises OSError if it is closed."""
    about = os.fstat(fd)
    return stat.S_IFMT(about.st_mode), about.st_dev, about.st_ino


def duplicate_high(fd: int) -> int:
    """Return a duplicate with a high number, so that it survives a test that closes descriptors.

    Programs that close "all" descriptors usually close 3 to 255 or 3 to 1023. The number is not the
    highest possible one: fork() copies the descriptor table up to the highest number in use.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    first = _HIGH if limit == resource.RLIM_INFINITY else max(3, min(_HIGH, limit - 8))
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, first)


_HIGH = 4000


def lost_descriptors() -> list[OwnDescriptor]:
    """Return the harness's descriptors that a test closed since the last call, and forget them."""
    for own in [own for own in _own if not own.is_intact]:
        own.forget()
    lost = _lost[:]
    _lost.clear()
    return lost


def lost_descriptors_message(lost: Iterable[OwnDescriptor]) -> str:
    """Return the message for a test that has closed these descriptors."""
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
    """Wait until some descriptors are readable or at their end; return them, none at the deadline.

    It uses poll() directly: the `selectors` module is slower, and this runs many times per test.
    """
    poller = select.poll()
    for descriptor in descriptors:
        poller.register(descriptor, select.POLLIN)
    remaining = deadline.remaining_s()
    events = poller.poll(None if remaining is None else remaining * 1000)
    return {descriptor for descriptor, _ in events}


def open_files() -> Iterator[tuple[str, str]]:
    """Yield each open descriptor, as text, and what it refers to; nothing outside Linux."""
    try:
        descriptors = os.listdir("/proc/self/fd")
    except FileNotFoundError:
        return
    for descriptor in descriptors:
        # The list contains the descriptor of listdir() itself, which is closed by now.
        with contextlib.suppress(OSError):
            yield descriptor, os.readlink(f"/proc/self/fd/{descriptor}")
