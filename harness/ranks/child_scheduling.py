"""How the kernel shares the processors among the threads of ranks."""

from __future__ import annotations

import contextlib
import os


def let_threads_finish() -> None:
    """Have threads of this process, once woken, wait until a processor is free.

    Else the thread that is woken takes the processor from the one that wakes it. gloo's threads
    and those of its peers do that to each other in the midst of every exchange: with as many ranks
    as cores, an `all_reduce` of four numbers took three times as long on the average. Each thread
    still has its share of the processors.

    Whoever has given the ranks another policy keeps it. Threads inherit it from the one that starts
    them, so this comes before all others.
    """
    if not hasattr(os, "SCHED_BATCH"):
        return
    with contextlib.suppress(OSError):  # where a sandbox forbids it, ranks are slower
        if os.sched_getscheduler(0) == os.SCHED_OTHER:
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
