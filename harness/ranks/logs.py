"""Make the log files for a rank's stdout and stderr, and read their ends."""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import BinaryIO

from harness.model.rank_report import Tail

STREAMS = ("stdout", "stderr")

# A log can have gigabytes, and several may be read while a report is written. So only this much is
# read for the last lines, and lines are counted only in logs of at most this size.
_TAIL_BYTES = 32 * 1024
_COUNT_BYTES = 8 * 1024 * 1024


def log_path(folder: str, rank: int, stream: str) -> str:
    """Return the path of the log file of one of a rank's streams."""
    return os.path.join(folder, f"rank{rank}.{stream}")


def copy_logs(folder: str, target: str) -> None:
    """Copy the logs of all ranks to another folder."""
    for name in os.listdir(folder) if folder != target else []:
        if name.endswith(STREAMS):
            shutil.copy(os.path.join(folder, name), target)


def make_logs(folder: str, rank: int) -> None:
    """Create a rank's empty logs. Raises OSError."""
    for stream in STREAMS:
        os.close(os.open(log_path(folder, rank, stream), os.O_WRONLY | os.O_CREAT, 0o600))


def empty(folder: str, rank: int) -> None:
    """Truncate a rank's logs, for the next test of reused ranks."""
    for stream in STREAMS:
        path = log_path(folder, rank, stream)
        with contextlib.suppress(OSError):
            if os.stat(path).st_size:
                os.truncate(path, 0)


def stacks_path(folder: str, rank: int) -> str:
    """Return the path of the pipe to which faulthandler writes a rank's stacks."""
    return os.path.join(folder, f"rank{rank}.stacks")


class WorldLogs:
    """The logs of the ranks of a world that run on this host.

    Args:
        folder: the world's folder.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def tail(self, rank: int, stream: str, max_lines: int) -> Tail:
        """Return the last lines of one stream of a rank."""
        return read_tail(log_path(self._folder, rank, stream), max_lines)

    def end(self, rank: int, stream: str, max_bytes: int) -> str:
        """Return the last `max_bytes` of one stream of a rank, as text."""
        return read_end(log_path(self._folder, rank, stream), max_bytes)


def read_tail(path: str, max_lines: int = 20) -> Tail:
    """Return the last lines of a log file.

    Args:
        path: the file; a missing one reads as empty.
        max_lines: the maximum number of lines.
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
        lines = lines[1:]  # the first line is incomplete
    return Tail(tuple(lines[-max_lines:]), total, size)


def read_end(path: str, max_bytes: int) -> str:
    """Return the last bytes of a log file as text, from the start of a line; empty if none."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - max_bytes))
            data = file.read()
    except OSError:
        return ""
    text = data.decode("utf-8", "replace")
    if size > max_bytes and "\n" in text:
        text = text.partition("\n")[2]  # the first line is incomplete
    return text


def _count_lines(file: BinaryIO) -> int:
    file.seek(0)
    data = file.read()
    return data.count(b"\n") + (bool(data) and not data.endswith(b"\n"))
