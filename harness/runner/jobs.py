"""How many tests, and how many ranks, at once."""

from __future__ import annotations

from harness.model.cores import core_count
from harness.model.expectation import is_accepting
from harness.runner.options import Options

_JOBS_PER_CORE = 2
_MAX_JOBS = 16
_RANKS_PER_CORE = 8


def jobs_for(options: Options, is_script: bool) -> int:
    """How many tests run at once; 0 for all in this process."""
    if options.jobs is not None:
        return options.jobs
    if options.list_only or (is_script and not _needs_workers(options)):
        return 0
    if options.live_output or is_accepting():
        return 1  # who accepts edits files, which two must not do at once
    if options.checkout is not None:
        return 1  # PyTorch's tests are written for it: some use the same fixed port as others
    return min(_JOBS_PER_CORE * core_count(), _MAX_JOBS)


def _needs_workers(options: Options) -> bool:
    return options.retries > 0 or options.test_timeout_s is not None


def max_ranks_for(options: Options) -> int:
    """How many ranks may be alive at once."""
    return options.max_ranks or _RANKS_PER_CORE * core_count()
