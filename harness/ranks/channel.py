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


def wrapped(frame: bytes, **around: Any) -> bytes:
    """A frame whose message has another frame's message in it, as `message`.

    Args:
        frame: the inner one, as it was encoded.
        around: what else the outer one says.
    """
    outer = json.dumps(around, ensure_ascii=True).encode("ascii")
    body = outer[:-1] + b', "message": ' + frame[_LENGTH.size :] + b"}"
    return _LENGTH.pack(len(body)) + body


class FrameReader:
    """Collects frames from a file descriptor without ever waiting for the rest of one.

    A writer may be stopped or killed in the middle of a frame; what has arrived of it stays in the
    buffer and is dropped with the reader.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.closed = False
        #: Why the stream has ended, if not because the other side has closed it.
        self.error: OSError | None = None
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
            except OSError as error:  # a socket whose other side died with data unread: ECONNRESET
                data, self.error = b"", error
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
    """Sends frames from any thread of one process.

    Args:
        fd: where to.
        stall_s: how long the reader may take nothing; None for as long as it lives.
    """

    def __init__(self, fd: int, stall_s: float | None = None) -> None:
        self.fd = fd
        self._stall_ms = None if stall_s is None else stall_s * 1000
        self._has_stalled = False
        self._lock = threading.Lock()

    def send(self, message: Message) -> None:
        """Write the whole frame, waiting for the reader.

        Raises:
            TimeoutError: if it has taken nothing for too long; what was sent is not a whole frame.
            OSError: if it has left.
        """
        self.send_frame(encode(message))

    def send_frame(self, frame: bytes) -> None:
        """The same for what has been encoded already."""
        data = memoryview(frame)
        with self._lock:
            if self._has_stalled:
                raise TimeoutError("the reader has part of a frame")
            while data:
                data = data[self._write(data) :]

    def send_at_once(self, message: Message) -> bool:
        """Write a short frame if the reader has room for it; says whether it had."""
        with self._lock:
            if self._has_stalled:
                return False
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
            if not poller.poll(self._stall_ms):
                self._has_stalled = True
                raise TimeoutError("the reader takes nothing") from None
            return 0
