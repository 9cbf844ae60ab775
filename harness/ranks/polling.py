"""Waiting for descriptors with the kernel's plain poll, many times a test."""

from __future__ import annotations

import select
from collections.abc import Iterable

from harness.model.clock import Deadline


def readable(descriptors: Iterable[int], deadline: Deadline) -> set[int]:
    """Those that have something to read, or have come to their end; empty at the deadline."""
    poller = select.poll()
    for descriptor in descriptors:
        poller.register(descriptor, select.POLLIN)
    remaining = deadline.remaining_s()
    events = poller.poll(None if remaining is None else remaining * 1000)
    return {descriptor for descriptor, _ in events}
