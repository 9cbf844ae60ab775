"""Give a forked process its own file positions, as if it had opened its modules' files itself.

A fork shares open files and their positions with its fork server, and so with all other forks: each
would continue where the last one has stopped reading. A fresh interpreter would import the module
again, open the file again, and start at the first line.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Iterable
from dataclasses import dataclass

from harness.ranks.descriptors import open_files

# The flags of F_GETFL that a second open() may repeat: none that create or empty the file. Linux
# also reports O_TMPFILE for a temporary file without a name, which would create another one.
_REOPENED_WITH = os.O_ACCMODE | os.O_APPEND | os.O_NONBLOCK | os.O_SYNC | os.O_DSYNC
if sys.platform == "linux":
    _REOPENED_WITH |= os.O_DIRECT | os.O_NOATIME
    _PATH_ONLY = os.O_PATH
else:
    _PATH_ONLY = 0  # only Linux has O_PATH; elsewhere ranks are not forked either


@dataclass(frozen=True)
class _Opened:
    """An open file description of the server.

    Attributes:
        file: device and inode.
        flags: the flags to open it with.
        position: its position after the imports.
        descriptors: the numbers that refer to it, each with whether a child process inherits it.
    """

    file: tuple[int, int]
    flags: int
    position: int
    descriptors: dict[int, bool]


_opened: list[_Opened] = []


def files_in_use() -> frozenset[tuple[int, int]]:
    """Return device and inode of every file that this process has open."""
    found = set()
    for descriptor, _ in open_files():
        with contextlib.suppress(OSError):
            found.add(_file_of(os.fstat(int(descriptor))))
    return frozenset(found)


def record(ignored: Iterable[tuple[int, int]]) -> None:
    """Record which files the imports of this fork server have opened, and their positions.

    Args:
        ignored: the files that were open when the server started. All processes that write to
            stdout must share its position, or they overwrite each other's output.
    """
    _opened.clear()
    left_out = frozenset(ignored)
    for descriptor in sorted(int(text) for text, _ in open_files()):
        with contextlib.suppress(OSError):
            _record(descriptor, left_out)


def _record(descriptor: int, left_out: frozenset[tuple[int, int]]) -> None:
    status = os.fstat(descriptor)
    has_position = stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)
    if not has_position or _file_of(status) in left_out:
        return
    flags = _flags_unless_locked(descriptor)
    if flags is None:
        return
    inherited = os.get_inheritable(descriptor)
    for known in _opened:
        if known.file == _file_of(status) and _shares(descriptor, next(iter(known.descriptors))):
            known.descriptors[descriptor] = inherited
            return
    position = os.lseek(descriptor, 0, os.SEEK_CUR)
    kept = flags & _REOPENED_WITH
    _opened.append(_Opened(_file_of(status), kept, position, {descriptor: inherited}))


def _flags_unless_locked(descriptor: int) -> int | None:
    """Return the flags of an open file; None if it must not be opened again.

    flock() locks belong to an open file, not to a process. A fork that opened the file again would
    wait for the lock of its own server. A descriptor of O_PATH has no position.
    """
    with open(f"/proc/self/fdinfo/{descriptor}") as file:
        lines = file.read().splitlines()
    if any(line.startswith("lock:") and ("FLOCK" in line or "OFDLCK" in line) for line in lines):
        return None
    flags = next(int(line.split()[1], 8) for line in lines if line.startswith("flags:"))
    return None if flags & _PATH_ONLY else flags


def _shares(one: int, other: int) -> bool:
    """Whether two descriptors are duplicates: then moving one moves the other."""
    here, there = os.lseek(one, 0, os.SEEK_CUR), os.lseek(other, 0, os.SEEK_CUR)
    if here != there:
        return False
    os.lseek(one, here + 1, os.SEEK_SET)
    moved = os.lseek(other, 0, os.SEEK_CUR) != there
    os.lseek(one, here, os.SEEK_SET)
    return moved


def reopen() -> None:
    """Open the recorded files again in this fork: the same numbers, the recorded positions.

    Python's buffers are copies of the server's at the end of its imports. So the position must be
    the one of that time, even if other forks have moved it since. A file that cannot be opened
    again stays shared.
    """
    for opened in _opened:
        with contextlib.suppress(OSError):
            _reopen(opened)


def _reopen(opened: _Opened) -> None:
    numbers = [fd for fd in opened.descriptors if _is_of(fd, opened.file)]
    if not numbers:
        return  # closed since
    new = os.open(f"/proc/self/fd/{numbers[0]}", opened.flags)
    try:
        os.lseek(new, opened.position, os.SEEK_SET)
        for number in numbers:
            os.dup2(new, number, inheritable=opened.descriptors[number])
    finally:
        os.close(new)


def _is_of(descriptor: int, file: tuple[int, int]) -> bool:
    try:
        return _file_of(os.fstat(descriptor)) == file
    except OSError:
        return False


def _file_of(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
