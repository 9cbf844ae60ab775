"""The rank's end of the channel to its parent."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections import deque
from multiprocessing.connection import Connection
from typing import TypeVar

from harness.model.clock import NEVER, Deadline
from harness.model.errors import PeerLeftError
from harness.model.warning_data import IssuedWarning
from harness.ranks.channel import FrameWriter
from harness.ranks.descriptors import OwnDescriptor, lost_descriptors_message
from harness.ranks.messages import FromRank, ToRank, WarningShown
from harness.ranks.process_exit import leave_if_fork_of
from harness.ranks.typed_message import frame

_Order = TypeVar("_Order", bound=ToRank)


class RankPipe:
    """Sends messages to the parent, and keeps those of the parent until the rank wants them.

    Attributes:
        fd: the descriptor of the channel.
        orders: the parent's messages for the main thread, which the listener puts here; None once
            the parent has gone.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection  # keeps the descriptor open
        self.fd = connection.fileno()
        self.orders: queue.SimpleQueue[ToRank | None] = queue.SimpleQueue()
        self._channel = OwnDescriptor(self.fd, "the rank's channel to its parent")
        self._writer = FrameWriter(self.fd)
        self._pid = os.getpid()
        self._held = b""
        self._sending = threading.Lock()
        self._warnings: deque[bytes] = deque()

    def send(self, message: FromRank) -> None:
        """Send a message to the parent, after those that were held."""
        if os.getpid() != self._pid:
            return  # a fork that the test has made is not the rank
        # The lock excludes the listener's answers. Errors are ignored: without a parent, the kernel
        # ends this process.
        with self._sending:
            self._send_frames(frame(message))

    def send_with_next(self, message: FromRank) -> None:
        """Hold a message until the next one is sent; nothing that could hang may come between."""
        self._held = frame(message)

    def send_warning(self, issued: IssuedWarning) -> None:
        """Report a warning that the filters show.

        Python warns in the middle of anything, even of sending (when it collects garbage, or
        handles a signal). So this never waits: what cannot be sent goes with the next message.
        """
        self._warnings.append(frame(WarningShown(issued)))
        if os.getpid() == self._pid and self._sending.acquire(blocking=False):
            try:
                self._send_frames(b"")
            finally:
                self._sending.release()

    def _send_frames(self, frames: bytes) -> None:
        held, self._held = self._held, b""
        while self._warnings:
            held += self._warnings.popleft()
        self.end_if_cut_off()
        with contextlib.suppress(OSError):
            self._writer.send_frame(held + frames)

    def wait_for(self, kind: type[_Order], limit_s: float | None = None) -> _Order:
        """Wait until the parent sends a message of this kind, and return it.

        Raises:
            queue.Empty: if none arrives in time.
            PeerLeftError: if the parent has gone.
        """
        limit = NEVER if limit_s is None else Deadline.after(limit_s)
        while (order := self.next_order(limit)) is not None:
            if isinstance(order, kind):
                return order
            # Other messages are answers that an earlier test or example did not wait for.
        raise PeerLeftError("the parent has gone")

    def next_order(self, limit: Deadline = NEVER) -> ToRank | None:
        """Wait for the parent's next message; return None if the parent has gone.

        This is the one place where a rank waits for its parent. It mostly has no deadline of its
        own: the parent has one for whatever the rank does, and if the parent goes, the kernel ends
        this process (`launch.process.attach`).

        Raises:
            queue.Empty: at the limit.
        """
        leave_if_fork_of(self._pid, 1)
        return self.orders.get(timeout=limit.remaining_s())

    def end_if_cut_off(self) -> None:
        """End this process, with a message on stderr, if the test has closed the channel."""
        if not self._channel.is_intact:
            with contextlib.suppress(OSError):  # the test has closed stderr, too
                os.write(2, f"{lost_descriptors_message([self._channel])}\n".encode())
            os._exit(1)
