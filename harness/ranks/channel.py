"""Text over a pipe between parent and rank: frames of JSON, each with its length in front.

JSON and not pickle: whatever a test raised arrives, and nothing that a rank sends is executed.
"""

from __future__ import annotations

import hmac
import json
import os
import select
import struct
import threading
from collections.abc import Callable
from typing import Any

Message = dict[str, Any]

#: Makes the mark of the next frame of a stream from its body.
MacFunction = Callable[[bytes], bytes]
MAC_SIZE = 32

_LENGTH = struct.Struct(">Q")
_CHUNK = 1 << 18
#: How long a frame may be: more than any message, less than what takes all memory.
FRAME_LIMIT = 1 << 30
# How much of what is no message is shown.
_SHOWN = 40


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

    Between two calls it holds no whole frame: each call returns all that it has taken from the
    descriptor. So whoever waits until the descriptor is readable cannot miss a frame that has
    arrived already. A writer may be stopped or killed in the middle of a frame; that part of a
    frame is dropped with the reader.

    Args:
        fd: where from.
        limit: how long a frame may be, in bytes.
        seal: makes the mark that the next frame must carry, from its body; None for no marks.

    Attributes:
        closed: whether nothing more will come: at the end of the stream, or after a fault.
        error: why the stream has ended, if not because the other side has closed it.
        fault: what came that is no message; empty if nothing did.
    """

    def __init__(self, fd: int, limit: int = FRAME_LIMIT, mac: MacFunction | None = None) -> None:
        self.fd = fd
        self.limit = limit
        self._mac = mac
        self._mac_size = 0 if mac is None else MAC_SIZE
        self.closed = False
        self.error: OSError | None = None
        self.fault = ""
        self._buffer = bytearray()
        os.set_blocking(fd, False)

    def read(self) -> list[Message]:
        """Return all messages that are complete by now, without waiting for one."""
        while self._receive(_CHUNK):
            pass
        found = []
        while (message := self._next()) is not None:
            found.append(message)
        return found

    def read_one(self) -> Message | None:
        """Return the next message if it is complete by now.

        It takes no byte of the frame after that from the descriptor, which stays readable.
        """
        while (missing := self._missing()) and self._receive(missing):
            pass
        return self._next()

    def _receive(self, size: int) -> bool:
        """Take up to so many bytes from the descriptor; whether there were some."""
        if self.closed:
            return False
        try:
            data = os.read(self.fd, size)
        except BlockingIOError:
            return False
        except OSError as error:  # a socket whose other side died with data unread: ECONNRESET
            data, self.error = b"", error
        self.closed = not data
        self._buffer += data
        return bool(data)

    def _missing(self) -> int:
        """How many bytes the first frame lacks, as far as its beginning tells."""
        if self.fault:
            return 0
        have = len(self._buffer)
        if have < _LENGTH.size:
            return _LENGTH.size - have
        (length,) = _LENGTH.unpack_from(self._buffer)
        if length > self.limit:
            self.fail(f"a frame of {length} bytes, where {self.limit} are the limit")
            return 0
        return max(0, _LENGTH.size + int(length) + self._mac_size - have)

    def _next(self) -> Message | None:
        if self._missing() or self.fault:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer)
        end = _LENGTH.size + length
        body = bytes(self._buffer[_LENGTH.size : end])
        received_mac = bytes(self._buffer[end : end + self._mac_size])
        del self._buffer[: end + self._mac_size]
        if self._mac is not None and not hmac.compare_digest(self._mac(body), received_mac):
            self.fail("a frame that was changed, added or repeated on the way")
            return None
        try:
            return _message(body)
        except ValueError as error:
            self.fail(str(error))
            return None

    def fail(self, fault: str) -> None:
        """Read nothing more: what follows cannot be trusted to be what it seems."""
        self.fault, self.closed = fault, True
        self._buffer.clear()


def _message(body: bytes) -> Message:
    """The message in the body of a frame. Raises ValueError saying what it is instead."""
    shown = f"{body[:_SHOWN]!r}{'…' if len(body) > _SHOWN else ''}"
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):  # not JSON, or lists in lists without end
        raise ValueError(f"a frame that is not JSON: {shown}") from None
    if isinstance(found, dict) and isinstance(found.get("kind"), str):
        return found
    raise ValueError(f"a frame that is not a message with a kind: {shown}")


class FrameWriter:
    """Sends frames from any thread of one process.

    Args:
        fd: where to.
        stall_s: how long the reader may take nothing; None for as long as it lives.
        seal: makes the mark of the next frame, from its body; None for no marks.
    """

    def __init__(
        self, fd: int, stall_s: float | None = None, mac: MacFunction | None = None
    ) -> None:
        self.fd = fd
        self._mac = mac
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
        with self._lock:
            if self._has_stalled:
                raise TimeoutError("the reader has part of a frame")
            if self._mac is not None:
                frame += self._mac(frame[_LENGTH.size :])
            data = memoryview(frame)
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
