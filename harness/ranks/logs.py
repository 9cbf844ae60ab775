"""The log files of a rank: where its stdout and stderr go, and reading their ends."""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import BinaryIO

from harness.model.rank_report import Tail

STREAMS = ("stdout", "stderr")

# A tail is for a reader's eyes; a flood of output must not be read into memory to show its end.
_TAIL_BYTES = 32 * 1024
_COUNT_BYTES = 8 * 1024 * 1024


def log_path(folder: str, rank: int, stream: str) -> str:
    return os.path.join(folder, f"rank{rank}.{stream}")


def copy_logs(folder: str, target: str) -> None:
    """Have the logs of all ranks in another folder too."""
    for name in os.listdir(folder) if folder != target else []:
        if name.endswith(STREAMS):
            shutil.copy(os.path.join(folder, name), target)


def make_logs(folder: str, rank: int) -> None:
    """Make a rank's logs, empty. Raises OSError."""
    for stream in STREAMS:
        os.close(os.open(log_path(folder, rank, stream), os.O_WRONLY | os.O_CREAT, 0o600))


def empty(folder: str, rank: int) -> None:
    """Begin a rank's logs anew, for the next test of ranks that stay."""
    for stream in STREAMS:
        path = log_path(folder, rank, stream)
        with contextlib.suppress(OSError):
            if os.stat(path).st_size:
                os.truncate(path, 0)


def stacks_path(folder: str, rank: int) -> str:
    """The pipe to which faulthandler writes a rank's stacks when it is told to."""
    return os.path.join(folder, f"rank{rank}.stacks")


class WorldLogs:
    """The logs of a world's ranks, as far as they are files of this machine.

    Args:
        folder: the world's folder.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def tail(self, rank: int, stream: str, max_lines: int) -> Tail:
        """The last lines of one stream of a rank."""
        return read_tail(log_path(self._folder, rank, stream), max_lines)

    def end(self, rank: int, stream: str, max_bytes: int) -> str:
        """The last so many bytes of one stream of a rank, as text."""
        return read_end(log_path(self._folder, rank, stream), max_bytes)


def read_tail(path: str, max_lines: int = 20) -> Tail:
    """The last lines of a log file.

    Args:
        path: the file; a missing one reads as empty.
        max_lines: how many lines at most.
    """
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            data = file.read()
            total = _count_lines(file) if size <= _COUNT_BYTES else None
    except OSError:
        return Tail()
    lines = data.decode("utf-8", "replace").splitlines()
    if size > _TAIL_BYTES and len(lines) > 1:
        lines = lines[1:]  # the first one was cut
    return Tail(tuple(lines[-max_lines:]), total, size)


def read_end(path: str, max_bytes: int) -> str:
    """The last so many bytes of a log file as text, from the beginning of a line; empty if none."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - max_bytes))
            data = file.read()
    except OSError:
        return ""
    text = data.decode("utf-8", "replace")
    if size > max_bytes and "\n" in text:
        text = text.partition("\n")[2]  # the first line was cut
    return text


def _count_lines(file: BinaryIO) -> int:
    file.seek(0)
    data = file.read()
    return data.count(b"\n") + (bool(data) and not data.endswith(b"\n"))
