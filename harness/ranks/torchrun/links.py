"""Connect torchrun's processes: frames over TCP.

A link is open until the other process closes it or ends (`closed`), its host is silent
(`fell_silent`), it reads nothing for too long (`is_stuck`), or it sends something that is no
message (`fault`). None of these raises: `send` does nothing then, and the owner looks.

TCP keepalive detects a lost host or a cut cable. The kernel answers the probes, so a process that
is stopped or busy in native code still counts as alive.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Callable, Iterator
from typing import TypeVar

from harness.model import settings
from harness.model.clock import Deadline
from harness.ranks import typed_message
from harness.ranks.channel import FrameReader, FrameWriter, Message
from harness.ranks.descriptors import readable
from harness.ranks.torchrun.handshake import LinkMacs
from harness.ranks.typed_message import TypedMessage

_Read = TypeVar("_Read", bound=TypedMessage)

ANY_ADDRESS = "0.0.0.0"
# How long to try one address; there may be others.
_CONNECT_S = 3.0


class Link:
    """One end of a connection.

    Args:
        sock: the connection; the link closes it.
        macs: the MACs of its frames; None for frames without.

    Attributes:
        closed: whether the other side has gone or is unreachable.
        is_stuck: whether the other process has read nothing for too long, though its host lives.
    """

    def __init__(self, sock: socket.socket, macs: LinkMacs | None = None) -> None:
        _set_keepalive(sock, settings.LINK_TIMEOUT_S.value())
        self._socket = sock
        received = macs.received if macs is not None else None
        self._reader = FrameReader(sock.fileno(), mac=received)
        # The other process may be importing a test, and read nothing until that is done.
        sent = macs.sent if macs is not None else None
        self._writer = FrameWriter(sock.fileno(), settings.START_TIMEOUT_S.value(), sent)
        self._sending: OSError | None = None
        self.is_stuck = False
        self.own_address: str = sock.getsockname()[0]
        self.other_address: str = sock.getpeername()[0]

    @property
    def fd(self) -> int:
        """The descriptor that is readable when the other side has sent something or has gone."""
        return self._socket.fileno()

    @property
    def closed(self) -> bool:
        return self._reader.closed

    @property
    def fault(self) -> str:
        """A description of received data that is not a message; empty if there was none."""
        return self._reader.fault

    def fail(self, fault: str) -> None:
        """Close the connection, since the other process cannot be understood."""
        self._reader.fail(fault)
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    @property
    def fell_silent(self) -> bool:
        """Whether the connection ended by a timeout of the other host, not by a close."""
        # The kernel reports ETIMEDOUT once, to a read or a write, whichever comes first.
        errors = (self._reader.error, self._sending)
        return any(error is not None and error.errno in _SILENCE for error in errors)

    def messages(self, convert: Callable[[Message], _Read]) -> list[_Read]:
        """Return the messages that have arrived by now; what is no message is the `fault`.

        Args:
            convert: makes a message of data, or raises ValueError.
        """
        found = typed_message.read(self._reader, convert)
        if self.fault:
            self.fail(self.fault)
        return found

    def next_message(self, deadline: Deadline) -> Message | None:
        """Wait for the next message, not yet converted.

        Returns:
            its data; None at the deadline, or if the other side has gone.
        """
        while True:
            # Read no further: the next frame may be for a loop that waits for the descriptor.
            message = self._reader.read_one()
            if message is not None or self.closed or not readable([self.fd], deadline):
                return message

    def send(self, message: TypedMessage) -> None:
        """Send a message; do nothing if the other side has gone, which `closed` shows."""
        self.send_frame(typed_message.frame(message))

    def send_frame(self, frame: bytes) -> None:
        """Send a frame that has been encoded already; see `send`."""
        try:
            self._writer.send_frame(frame)
        except OSError as error:
            self._sending = self._sending or error
            # A TimeoutError of FrameWriter has no errno. Part of a frame may be sent, so no other
            # frame can follow.
            self.is_stuck = self.is_stuck or error.errno is None
            if self.is_stuck:
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._socket.close()


_SILENCE = {errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN}


def _set_keepalive(sock: socket.socket, limit_s: float) -> None:
    """Have the kernel end the connection after `limit_s` without a sign of life."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    probes = 4
    every_s = max(1, round(limit_s / (probes + 1)))
    for name, value in (
        ("TCP_KEEPIDLE", every_s),
        ("TCP_KEEPINTVL", every_s),
        ("TCP_KEEPCNT", probes),
        # Keepalive probes are not sent while data is unacknowledged; this limit covers that case.
        ("TCP_USER_TIMEOUT", round(limit_s * 1000)),
    ):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def listen(address: str, port: int) -> socket.socket:
    """Return a non-blocking socket that listens.

    Args:
        address: the address; `ANY_ADDRESS` for all addresses of this host.
        port: the port; 0 lets the kernel choose.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if port:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(socket.SOMAXCONN)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def connect(addresses: list[str], port: int, deadline: Deadline) -> Iterator[socket.socket]:
    """Yield a connection to each address that accepts one; the caller closes them."""
    for address in addresses:
        limit_s = Deadline.after(_CONNECT_S).sooner(deadline).remaining_s()
        try:
            sock = socket.create_connection((address, port), timeout=limit_s)
        except OSError:
            continue
        sock.settimeout(None)
        yield sock
