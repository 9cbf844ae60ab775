"""How many processors there are for this process."""

from __future__ import annotations

import os


def core_count() -> int:
    """Those that it may run on, which may be fewer than the machine has; at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
