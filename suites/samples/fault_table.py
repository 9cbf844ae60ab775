"""The words for suites of faults: what must come of each test, and when its fault happens."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch.distributed as dist

# A death or an exception must end the test this soon after it happened.
AT_ONCE_S = 0.5
# Longer than any test may take.
FOREVER_S = 10_000
# Of those that hang, the body may take this long.
TIME_LIMIT_S = 1.0
# Then ranks are asked where they are: those that can't answer are waited for, and py-spy is slow.
AFTER_A_HANG_S = 6.0


@dataclass(frozen=True)
class Fault:
    """What must come of one bad test.

    Attributes:
        title: the fault in a few words.
        status: unittest's word: passed, failed, error, skipped, expected failure, unexpected
            success.
        error: the exception's class; empty if there is none.
        shows: texts that the output must hold.
        hides: texts that it must not hold.
        within_s: seconds from the fault to the end of the test.
        warns: the category of the warning that it must raise; empty for none.
    """

    title: str
    status: str
    error: str
    shows: tuple[str, ...]
    hides: tuple[str, ...]
    within_s: float
    warns: str


FAULTS: dict[str, Fault] = {}


def fault(title, status="error", error="", shows=(), hides=(), within_s=AT_ONCE_S, warns=""):
    """Put a test into the table."""

    def register(test):
        FAULTS[test.__name__] = Fault(
            title, status, error, tuple(shows), tuple(hides), within_s, warns
        )
        return test

    return register


def died(title, *shows, **kwargs):
    return fault(title, "error", "RanksDiedError", shows, **kwargs)


def raised(title, *shows, **kwargs):
    return fault(title, "error", "RanksRaisedError", shows, **kwargs)


def failed(title, *shows, **kwargs):
    return fault(title, "failed", "RanksFailedError", shows, **kwargs)


def hung(title, *shows, **kwargs):
    kwargs.setdefault("within_s", TIME_LIMIT_S + AFTER_A_HANG_S)
    return fault(title, "error", "RanksTimedOutError", shows, **kwargs)


def stuck(title, *shows, **kwargs):
    # Two looks, one confirmation time apart, after one of quiet; the looks are of busy processes.
    kwargs.setdefault("within_s", 6.0)
    return fault(title, "error", "RanksDeadlockedError", shows, **kwargs)


class Timekeeper:
    """Notes when a fault happens in a rank and when its test ends in the parent."""

    def setUp(self):
        # Before the base's: the last cleanup to run.
        self.addCleanup(self.note, "end")
        super().setUp()
        # As tests for PyTorch's harness have to.
        self._spawn_processes()

    def note(self, what):
        folder = os.environ.get("SAMPLE_OUT")
        if folder:
            with open(Path(folder, self._testMethodName), "a") as file:
                file.write(f"{what} {time.monotonic()}\n")

    def now(self):
        """The fault happens now."""
        self.note("fault")

    def meet(self):
        """Return when all ranks are here: what they do next, they do at the same time."""
        store = dist.FileStore(self.file_name, self.world_size)
        store.set(f"rank {self.rank}", "here")
        store.wait([f"rank {rank}" for rank in range(self.world_size)])

    def bring_up(self):
        store = dist.FileStore(self.file_name, self.world_size)
        dist.init_process_group("gloo", store=store, rank=self.rank, world_size=self.world_size)
