"""Connections between the processes of a given world: frames of text over TCP.

Whether the other side lives is the kernel's business: it answers for a process that is busy in
native code, or stopped, and it notices when a host is gone or a cable is cut.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator

from harness.model import settings
from harness.model.clock import Deadline
from harness.ranks.channel import FrameReader, FrameWriter, Message, encode
from harness.ranks.descriptors import readable
from harness.ranks.torchrun.handshake import LinkMacs

ANY_ADDRESS = "0.0.0.0"
# An address that leads nowhere is not worth more; there may be others.
_CONNECT_S = 3.0


class Link:
    """One end of a connection.

    Args:
        sock: the connection; the link closes it.
        seals: the marks of its frames; None for none.

    Attributes:
        closed: whether the other side has gone, or cannot be reached any more.
        is_stuck: whether the other process, whose host lives, has taken nothing for too long.
    """

    def __init__(self, sock: socket.socket, macs: LinkMacs | None = None) -> None:
        _watch(sock, settings.LINK_TIMEOUT_S.value())
        self._socket = sock
        received = macs.received if macs is not None else None
        self._reader = FrameReader(sock.fileno(), mac=received)
        # Importing a test, it may be at something else for as long as that may take.
        sent = macs.sent if macs is not None else None
        self._writer = FrameWriter(sock.fileno(), settings.START_TIMEOUT_S.value(), sent)
        self._sending: OSError | None = None
        self.is_stuck = False
        self.own_address: str = sock.getsockname()[0]
        self.other_address: str = sock.getpeername()[0]

    @property
    def fd(self) -> int:
        """Becomes readable when the other side has said something, or has gone."""
        return self._socket.fileno()

    @property
    def closed(self) -> bool:
        return self._reader.closed

    @property
    def fault(self) -> str:
        """What the other side has sent that is no message; empty if nothing."""
        return self._reader.fault

    def fail(self, fault: str) -> None:
        """Hear and say nothing more, since the other side has sent this."""
        self._reader.fail(fault)
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    @property
    def fell_silent(self) -> bool:
        """Whether the other host has given no sign of life for too long, rather than hung up."""
        # Whoever comes first, reading or writing, is told, and the other finds it closed.
        errors = (self._reader.error, self._sending)
        return any(error is not None and error.errno in _SILENCE for error in errors)

    def messages(self) -> list[Message]:
        """What the other side has said by now."""
        return self._reader.read()

    def next_message(self, deadline: Deadline) -> Message | None:
        """The next message, waited for; None if there is none by then, or will be none."""
        while True:
            # Not more than that: what follows may be for a loop that waits on the descriptor.
            message = self._reader.read_one()
            if message is not None or self.closed or not readable([self.fd], deadline):
                return message

    def send(self, message: Message) -> None:
        """Say something; nothing happens if the other side has gone, which `closed` will tell."""
        self.send_frame(encode(message))

    def send_frame(self, frame: bytes) -> None:
        """The same for what has been encoded already."""
        try:
            self._writer.send_frame(frame)
        except OSError as error:
            self._sending = self._sending or error
            # Half a frame cannot be followed by another one.
            self.is_stuck = self.is_stuck or error.errno is None
            if self.is_stuck:
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._socket.close()


_SILENCE = {errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN}


def _watch(sock: socket.socket, limit_s: float) -> None:
    """Have the kernel end the connection when the other host gives no sign of life for so long."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    probes = 4
    every_s = max(1, round(limit_s / (probes + 1)))
    for name, value in (
        ("TCP_KEEPIDLE", every_s),
        ("TCP_KEEPINTVL", every_s),
        ("TCP_KEEPCNT", probes),
        # Also for what has been sent and not been taken.
        ("TCP_USER_TIMEOUT", round(limit_s * 1000)),
    ):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def listen(address: str, port: int) -> socket.socket:
    """A socket that takes connections, without waiting for any.

    Args:
        address: where; `ANY_ADDRESS` for all addresses of this host.
        port: the port; 0 for one of the kernel's choice.
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
    """A connection to each address that takes one; the caller closes those it does not want."""
    for address in addresses:
        limit_s = Deadline.after(_CONNECT_S).sooner(deadline).remaining_s()
        try:
            sock = socket.create_connection((address, port), timeout=limit_s)
        except OSError:
            continue
        sock.settimeout(None)
        yield sock
