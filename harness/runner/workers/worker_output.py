"""Capture the output of a worker's tests in files, and attribute it to tests."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.ranks.launch.process import write_to
from harness.ranks.logs import STREAMS
from harness.ranks.process_exit import flush_output

# A report keeps this much of the end of each stream of a test.
_MAX_BYTES = 1 << 16
# A file above this size is truncated once the records contain all of it.
_MAX_FILE = 1 << 20


def redirect(folder: Path) -> None:
    """Redirect this process's stdout and stderr to files, including the output of native code."""
    for name in STREAMS:
        getattr(sys, name).flush()
        write_to(name, os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))


class Reader:
    """Reads the output since the last call.

    Args:
        folder: the folder with the files.
        printed: how many bytes of stdout and stderr to skip.
    """

    def __init__(self, folder: Path, printed: Sequence[int] = (0, 0)) -> None:
        self._folder = folder
        self._read = dict(zip(STREAMS, printed, strict=True))

    @property
    def printed(self) -> tuple[int, int]:
        """How many bytes of stdout and stderr have been read."""
        out, err = (self._read[name] for name in STREAMS)
        return out, err

    def make_room(self) -> None:
        """Truncate files that have grown large; all of their content has been read."""
        for name in STREAMS:
            if self._read[name] > _MAX_FILE:
                # By path, because a test may have replaced the descriptor with another file.
                os.truncate(self._folder / name, 0)
                self._read[name] = 0

    def take(self) -> tuple[str, str]:
        """Return the end of the new output on stdout and on stderr."""
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
