"""Show the output of ranks while they run, and also write it to their log files.

Without live output, ranks write to their log files directly. With it, they write to pipes, and the
parent copies these to the log files and to its own stdout and stderr.
"""

from __future__ import annotations

import os
import sys
from multiprocessing import Pipe
from select import PIPE_BUF
from typing import TextIO

from harness.ranks.logs import STREAMS, log_path

_CHUNK = 1 << 16
# How many chunks one call reads: as much as a pipe can hold by default (fs.pipe-max-size).
_PIPE_CHUNKS = 16


class LiveStream:
    """One of a rank's two streams, in the parent.

    Args:
        folder: the test's folder, for the log file.
        rank: the rank.
        stream: "stdout" or "stderr".
    """

    def __init__(self, folder: str, rank: int, stream: str) -> None:
        self._from_rank, self.for_rank = Pipe(duplex=False)
        os.set_blocking(self.fd, False)
        self._log = open(log_path(folder, rank, stream), "ab", buffering=0)  # noqa: SIM115
        self._prefix = f"[rank {rank}] "
        self._stream = stream
        self._line = b""
        self.closed = False

    @property
    def fd(self) -> int:
        """Return the descriptor that is readable when the rank has written something."""
        return self._from_rank.fileno()

    def pump(self) -> None:
        """Pass on what the rank has written by now; set `closed` at the end of the stream.

        It reads at most what a pipe holds, since a rank may write faster than this process reads.
        """
        for _ in range(_PIPE_CHUNKS):
            try:
                data = os.read(self.fd, _CHUNK)
            except BlockingIOError:
                return
            self.closed = not data
            if self.closed:
                return
            self._log.write(data)
            self._show(data)

    def _show(self, data: bytes) -> None:
        *lines, self._line = (self._line + data).split(b"\n")
        if len(self._line) > _CHUNK:  # a progress bar, or binary data
            lines, self._line = [*lines, self._line], b""
        if lines:
            self._print_lines(lines)

    def _print_lines(self, lines: list[bytes]) -> None:
        """Print whole lines, in parts that one write to a pipe can take.

        The runner and its workers share stdout. A pipe may interleave larger writes of several
        processes, so a line of the runner (SLOW) would land in the middle of a rank's.
        """
        out: TextIO = getattr(sys, self._stream)
        encoding = getattr(out, "encoding", None) or "utf-8"
        part, size = "", 0
        for line in lines:
            text = f"{self._prefix}{line.decode('utf-8', 'backslashreplace')}\n"
            data = text.encode(encoding, "backslashreplace")
            if part and size + len(data) > PIPE_BUF:
                _print(part, out)
                part, size = "", 0
            part += data.decode(encoding)
            size += len(data)
        _print(part, out)

    def end_of_test(self) -> None:
        """Pass on what the rank has written by now, an unfinished last line included."""
        self.pump()
        if self._line:
            self._print_lines([self._line])
            self._line = b""

    def close(self) -> None:
        """Pass on the rest of the output of a rank that has ended, and close the descriptors."""
        self.end_of_test()
        self._from_rank.close()
        self._log.close()


def _print(text: str, out: TextIO) -> None:
    out.write(text)
    out.flush()


def live_streams(folder: str, rank: int) -> list[LiveStream]:
    """Return the streams for a rank that is about to start."""
    return [LiveStream(folder, rank, stream) for stream in STREAMS]
