"""Send messages over a pipe or socket, as length-prefixed frames of JSON.

    8 bytes, big-endian   length of the body
    body                  a JSON object with a "kind"
    32 bytes              a MAC over the body; between hosts only

It is JSON, not pickle: an exception of a test may not be picklable, and unpickling executes code
that another host could choose.
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

#: Computes the message authentication code (MAC) of the next frame of a stream from its body.
MacFunction = Callable[[bytes], bytes]
MAC_SIZE = 32

_LENGTH = struct.Struct(">Q")
_CHUNK = 1 << 18
#: The longest frame, in bytes. No message is longer; without a limit, a test that writes to the
#: descriptor could make the parent wait for an absurd length.
FRAME_LIMIT = 1 << 30
# How many bytes of an unreadable frame a message shows.
_SHOWN = 40


def encode(message: Message) -> bytes:
    """Return a message as one frame. Lone surrogates are escaped, never an error."""
    body = json.dumps(message, ensure_ascii=True, default=repr).encode("ascii")
    return _LENGTH.pack(len(body)) + body


def wrapped(frame: bytes, **around: Any) -> bytes:
    """Return a frame whose message contains another frame's message, as `message`.

    Args:
        frame: the inner frame, encoded.
        around: the other fields of the outer message.
    """
    outer = json.dumps(around, ensure_ascii=True).encode("ascii")
    body = outer[:-1] + b', "message": ' + frame[_LENGTH.size :] + b"}"
    return _LENGTH.pack(len(body)) + body


class FrameReader:
    """Reads frames from a file descriptor without ever waiting for the rest of one.

    Between two calls it holds no complete frame: each call returns all that it has read. So a loop
    that waits until the descriptor is readable cannot miss a frame. A writer may be stopped or
    killed in the middle of a frame; that partial frame is dropped with the reader.

    Args:
        fd: the descriptor.
        limit: the longest frame, in bytes.
        mac: computes the MAC that the next frame must carry; None for frames without one.

    Attributes:
        closed: whether the stream has ended, or has had a fault.
        error: why the stream has ended, unless the other side closed it.
        fault: a description of received data that is not a message; empty if there was none.
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
        """Return all messages that are complete by now, without waiting."""
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
        """Read up to `size` bytes from the descriptor; return whether there were any."""
        if self.closed:
            return False
        try:
            data = os.read(self.fd, size)
        except BlockingIOError:
            return False
        except OSError as error:  # a socket whose other side died with data unread: ECONNRESET
            data, self.error = b"", error
        # An empty read is the end of the stream. A rank that is killed ends its stream like this,
        # perhaps in the middle of a frame.
        self.closed = not data
        self._buffer += data
        return bool(data)

    def _missing(self) -> int:
        """Return how many bytes the first frame lacks, as far as is known by now."""
        if self.fault:
            return 0
        have = len(self._buffer)
        if have < _LENGTH.size:
            return _LENGTH.size - have
        (length,) = _LENGTH.unpack_from(self._buffer)
        if length > self.limit:
            self.fail(f"a frame of {length} bytes; the limit is {self.limit}")
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
            self.fail("a frame with a wrong MAC: it was changed, added or repeated in transit")
            return None
        try:
            return _message(body)
        except ValueError as error:
            self.fail(str(error))
            return None

    def fail(self, fault: str) -> None:
        """Stop reading, since nothing after this fault can be trusted."""
        self.fault, self.closed = fault, True
        self._buffer.clear()


def _message(body: bytes) -> Message:
    """Return the message in a frame's body. Raises ValueError if it is not a message."""
    shown = f"{body[:_SHOWN]!r}{'…' if len(body) > _SHOWN else ''}"
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):  # not JSON, or nested too deeply
        raise ValueError(f"a frame that is not JSON: {shown}") from None
    if isinstance(found, dict) and isinstance(found.get("kind"), str):
        return found
    raise ValueError(f"a frame that is not a message with a kind: {shown}")


class FrameWriter:
    """Sends frames from any thread of one process.

    Args:
        fd: the descriptor.
        stall_s: seconds for which the reader may read nothing; None for no limit.
        mac: computes the MAC of the next frame from its body; None for frames without one.
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
            TimeoutError: if the reader has read nothing for too long. It may have part of a frame,
                so no other frame can follow.
            OSError: if the reader has gone.
        """
        self.send_frame(encode(message))

    def send_frame(self, frame: bytes) -> None:
        """Write a frame that has been encoded already; see `send`."""
        with self._lock:
            if self._has_stalled:
                raise TimeoutError("an earlier frame was sent only in part")
            if self._mac is not None:
                frame += self._mac(frame[_LENGTH.size :])
            data = memoryview(frame)
            while data:
                data = data[self._write(data) :]

    def send_at_once(self, message: Message) -> bool:
        """Write a short frame if the channel has room for it; return whether it had."""
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
        except BlockingIOError:  # FrameReader made the descriptor non-blocking in both directions
            poller = select.poll()
            poller.register(self.fd, select.POLLOUT)
            if not poller.poll(self._stall_ms):
                self._has_stalled = True
                raise TimeoutError("the reader does not read") from None
            return 0
