"""The file descriptors of this process: which are open, and which have something to read."""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Iterable, Iterator

from harness.model.clock import Deadline


def readable(descriptors: Iterable[int], deadline: Deadline) -> set[int]:
    """Wait until some have something to read, or have come to their end.

    By the kernel's plain poll, since it is done many times a test.

    Returns:
        those; empty at the deadline.
    """
    poller = select.poll()
    for descriptor in descriptors:
        poller.register(descriptor, select.POLLIN)
    remaining = deadline.remaining_s()
    events = poller.poll(None if remaining is None else remaining * 1000)
    return {descriptor for descriptor, _ in events}


def open_files() -> Iterator[tuple[str, str]]:
    """The open descriptors, as text, and what they are of; none where it is not Linux."""
    try:
        descriptors = os.listdir("/proc/self/fd")
    except FileNotFoundError:
        return
    for descriptor in descriptors:
        # The one that listed them, at least, has been closed meanwhile.
        with contextlib.suppress(OSError):
            yield descriptor, os.readlink(f"/proc/self/fd/{descriptor}")
