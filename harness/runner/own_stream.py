"""The runner's own way to stdout and stderr, where tests run in its process.

A test may close these streams or their descriptors, or replace them by None. What the runner has to
say must arrive all the same, so it prints to a duplicate of the descriptor.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from harness.ranks.descriptors import OwnDescriptor, duplicate_high, file_behind
from harness.ranks.process_exit import flush_output


class OwnStream:
    """A text stream that goes where stdout or stderr went when it was made.

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
        except (AttributeError, OSError, ValueError):  # it has no descriptor, as a StringIO
            return

    def _duplicate(self) -> None:
        self._copy = OwnDescriptor(duplicate_high(self._fd), f"the runner's own {self._name}")

    def write(self, text: str) -> int:
        """Print the text, after what tests have printed."""
        flush_output()
        if self._copy is None:
            if self._stream is not None:
                self._stream.write(text)
            return len(text)
        if not self._copy.is_intact and self._has_first():
            self._copy.forget()
            self._duplicate()
        if self._copy.is_intact:
            self._write_to(self._copy.fd, text)
        return len(text)

    def _has_first(self) -> bool:
        """Whether the descriptor of the stream is what it was when this was made."""
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
