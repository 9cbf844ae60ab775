"""Ask the kernel which user is at the other end of a connection on this host.

It asks about one socket (inet_diag over netlink). /proc/net/tcp has the same data, but the kernel
takes up to 100 ms to write it: too long for many connections.
"""

from __future__ import annotations

import os
import socket
import struct

_Address = tuple[str, int]

# include/uapi/linux/netlink.h, sock_diag.h, inet_diag.h
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
# Family, protocol, extensions, padding, states; then the socket: own and other port, own and other
# address (with room for IPv6), interface, cookie.
_REQUEST = struct.Struct("=BBBxI2s2s4s12x4s12xIII")
# Family, state, timer, retransmissions, the socket as above, timeout, queues, user, inode.
_ANSWER = struct.Struct("=BBBB48xIIIII")
_ALL_STATES, _NO_COOKIE = 0xFFFFFFFF, 0xFFFFFFFF
# States of connections, as the kernel numbers them (include/net/tcp_states.h).
_ESTABLISHED, _LISTENING = 1, 10


def user_of_far_end(sock: socket.socket) -> int | None:
    """Return the user id of the process that a connection leads to.

    None if that is not known: on another host, or if the other process has closed its end.
    """
    try:
        ours, theirs = sock.getsockname()[:2], sock.getpeername()[:2]
    except OSError:
        return None
    return _user(theirs, ours, _ESTABLISHED) if is_loopback(theirs[0]) else None


def user_of_listener(address: str, port: int) -> int | None:
    """Return the user id of the process that listens there, if it is on this host and known."""
    return _user((address, port), ("0.0.0.0", 0), _LISTENING)


def is_stranger(user: int | None) -> bool:
    """Whether the user is known and is not this one."""
    return user is not None and user != os.geteuid()


def is_loopback(address: str) -> bool:
    """Whether an address is a loopback address."""
    return address.startswith("127.")


def _user(own: _Address, other: _Address, state: int) -> int | None:
    """Return the owner of the socket with these addresses and state; None if there is none."""
    try:
        answer = _ask(_request(own, other))
    except (OSError, AttributeError):  # an address that is a name; no netlink, as on macOS
        return None
    _, kind, _, _, _ = _HEADER.unpack_from(answer)
    if kind != _SOCK_DIAG_BY_FAMILY or len(answer) < _HEADER.size + _ANSWER.size:
        return None
    _, found, _, _, _, _, _, user, inode = _ANSWER.unpack_from(answer, _HEADER.size)
    # Without an inode, no process has the socket (yet, or any more), so it has no owner.
    return user if found == state and inode else None


def _request(own: _Address, other: _Address) -> bytes:
    body = _REQUEST.pack(
        socket.AF_INET, socket.IPPROTO_TCP, 0, _ALL_STATES,
        own[1].to_bytes(2, "big"), other[1].to_bytes(2, "big"),
        socket.inet_aton(own[0]), socket.inet_aton(other[0]),
        0, _NO_COOKIE, _NO_COOKIE,
    )  # fmt: skip
    size = _HEADER.size + len(body)
    return _HEADER.pack(size, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0) + body


def _ask(request: bytes) -> bytes:
    # The kernel answers before send() returns.
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel:
        kernel.setblocking(False)
        kernel.sendto(request, (0, 0))
        return kernel.recv(8192)
