"""Text over a pipe between parent and rank: frames of JSON, each with its length in front.

JSON and not pickle: whatever a test raised arrives, and nothing that a rank sends is executed.
"""

from __future__ import annotations

import json
import os
import select
import struct
import threading
from collections.abc import Iterator
from typing import Any

Message = dict[str, Any]

_LENGTH = struct.Struct(">Q")
_CHUNK = 1 << 18


def encode(message: Message) -> bytes:
    """A message as one frame. Lone surrogates and the like are escaped, never an error."""
    body = json.dumps(message, ensure_ascii=True, default=repr).encode("ascii")
    return _LENGTH.pack(len(body)) + body


class FrameReader:
    """Collects frames from a file descriptor without ever waiting for the rest of one.

    A writer may be stopped or killed in the middle of a frame; what has arrived of it stays in the
    buffer and is dropped with the reader.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.closed = False
        self._buffer = bytearray()
        os.set_blocking(fd, False)

    def read(self) -> Iterator[Message]:
        """All messages that are complete by now; sets `closed` at the end of the stream."""
        self._fill()
        while (message := self._next()) is not None:
            yield message

    def _fill(self) -> None:
        while not self.closed:
            try:
                data = os.read(self.fd, _CHUNK)
            except BlockingIOError:
                return
            except OSError:  # a socket whose other side died with data unread: ECONNRESET
                data = b""
            self.closed = not data
            self._buffer += data

    def _next(self) -> Message | None:
        if len(self._buffer) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer)
        end = _LENGTH.size + length
        if len(self._buffer) < end:
            return None
        body = bytes(self._buffer[_LENGTH.size : end])
        del self._buffer[:end]
        return json.loads(body)


class FrameWriter:
    """Sends frames from any thread of one process."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._lock = threading.Lock()

    def send(self, message: Message) -> None:
        """Write the whole frame, waiting as long as the reader needs. Raises OSError if it left."""
        self.send_frame(encode(message))

    def send_frame(self, frame: bytes) -> None:
        """The same for what has been encoded already."""
        data = memoryview(frame)
        with self._lock:
            while data:
                data = data[self._write(data) :]

    def send_at_once(self, message: Message) -> bool:
        """Write a short frame if the reader has room for it; says whether it had."""
        with self._lock:
            try:
                os.write(self.fd, encode(message))
            except OSError:
                return False
        return True

    def _write(self, data: memoryview) -> int:
        try:
            return os.write(self.fd, data)
        except BlockingIOError:  # the descriptor is read without waiting, so it is written so too
            poller = select.poll()
            poller.register(self.fd, select.POLLOUT)
            poller.poll()
            return 0
