"""The runner's own stdout and stderr, for runs whose tests run in the same process.

A test may close these streams or their descriptors, or replace them with None. The runner's output
must still arrive, so it prints to a duplicate of the descriptor.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from harness.ranks.descriptors import OwnDescriptor, duplicate_high, file_behind
from harness.ranks.process_exit import flush_output


class OwnStream:
    """A text stream to where stdout or stderr went when this object was created.

    Args:
        name: "stdout" or "stderr".
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._stream: Any = getattr(sys, name)
        self._copy: OwnDescriptor | None = None
        try:
            self._fd = self._stream.fileno()
            self._file = file_behind(self._fd)
            self._duplicate()
        except (AttributeError, OSError, ValueError):  # no descriptor, for example a StringIO
            return

    def _duplicate(self) -> None:
        self._copy = OwnDescriptor(duplicate_high(self._fd), f"the runner's own {self._name}")

    def write(self, text: str) -> int:
        """Print the text, after everything that tests have printed."""
        flush_output()
        if self._copy is None:
            if self._stream is not None:
                self._stream.write(text)
            return len(text)
        # A test may close even the duplicate, as os.closerange() does. If the original descriptor
        # still refers to the same file, duplicate it again; otherwise nothing can be printed.
        if not self._copy.is_intact and self._has_original():
            self._copy.forget()
            self._duplicate()
        if self._copy.is_intact:
            self._write_to(self._copy.fd, text)
        return len(text)

    def _has_original(self) -> bool:
        """Whether the stream's descriptor still refers to the same file as at the start."""
        try:
            return file_behind(self._fd) == self._file
        except OSError:
            return False

    def _write_to(self, fd: int, text: str) -> None:
        data = memoryview(text.encode(self._stream.encoding, self._stream.errors))
        while data:
            data = data[os.write(fd, data) :]

    def flush(self) -> None:
        if self._copy is None and self._stream is not None:
            self._stream.flush()
