"""What a worker's tests print: kept apart from the runner's own output, and told test by test."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.ranks.launch.process import write_to
from harness.ranks.logs import STREAMS
from harness.ranks.process_exit import flush_output

# What a report keeps of each stream of one test: the end of it.
_MAX_BYTES = 1 << 16
# From this size on, a file whose end has been told is emptied.
_MAX_FILE = 1 << 20


def redirect(folder: Path) -> None:
    """In a worker: send stdout and stderr, what native code writes included, to files."""
    for name in STREAMS:
        getattr(sys, name).flush()
        write_to(name, os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))


class Reader:
    """Reads what has been printed since it was asked last.

    Args:
        folder: where the files are.
        printed: how much of each has been told.
    """

    def __init__(self, folder: Path, printed: Sequence[int] = (0, 0)) -> None:
        self._folder = folder
        self._read = dict(zip(STREAMS, printed, strict=True))

    @property
    def printed(self) -> tuple[int, int]:
        """How much of each has been told."""
        out, err = (self._read[name] for name in STREAMS)
        return out, err

    def make_room(self) -> None:
        """In the worker: empty files that have grown large. All that is in them has been told."""
        for name in STREAMS:
            if self._read[name] > _MAX_FILE:
                # By name: a test may have put another file in place of the descriptor.
                os.truncate(self._folder / name, 0)
                self._read[name] = 0

    def take(self) -> tuple[str, str]:
        """The last of what has come on stdout and on stderr."""
        flush_output()
        out, err = (self._take(name) for name in STREAMS)
        return out, err

    def _take(self, name: str) -> str:
        path = self._folder / name
        try:
            size = os.stat(path).st_size
            if size == self._read[name]:
                return ""
            begin = max(self._read[name], size - _MAX_BYTES)
            with open(path, "rb") as file:
                file.seek(begin)
                data = file.read(size - begin)
        except OSError:
            return ""
        left_out, self._read[name] = begin - self._read[name], size
        text = data.decode("utf-8", "backslashreplace")
        return f"({left_out} bytes before this are left out)\n{text}" if left_out else text
