"""The options of a run as one frozen value, its time limits, and its number of workers."""

from __future__ import annotations

from dataclasses import dataclass

from harness.model.clock import NEVER, Deadline
from harness.model.cores import core_count
from harness.model.expectation import is_accepting

EXIT_PASSED = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NOTHING_RAN = 5


@dataclass(frozen=True)
class Options:
    """The options of a run.

    Attributes:
        names: tests, classes, modules, files and folders; empty for all.
        patterns: of `-k`; a test runs if any of them matches.
        verbose: print a line for every test.
        max_fail: after how many failures to stop; None for no limit.
        max_skips: more skipped tests and subtests than this fail the run; None for no limit.
        list_only: print the names of the tests and run nothing.
        seed: seed for all tests; None for the setting's.
        timeout_s: seconds that the body of a rank test may take; None for the setting's.
        test_timeout_s: time limit for a whole test in seconds; None for no limit.
        run_timeout_s: seconds after which the run stops; None for no limit.
        isolation: what a test shares with the test before it; None for the setting's.
        audit: how closely to check what ranks communicate; None for the setting's.
        accept: update the texts that tests expect.
        live_output: show what tests and ranks print while they run.
        jobs: how many tests run at once; 0 for no workers; None to choose by the number of cores.
        max_ranks: how many ranks may be alive at once; None to choose by the number of cores.
        devices: the devices that tests may use; None for all that torch finds.
        rerun_failed: run only tests that failed last time they ran.
        failed_first: run tests that failed last time they ran before the others.
        insecure_world: whether torchrun's processes need no secret.
        shard: (K, N): only the Kth of N parts; None for all.
        shuffle: in random order, determined by the seed.
        repeat: how often every test runs.
        stress_s: repeat the tests until this time has passed; None for no repetition.
        retries: how often a test that fails is retried.
        flaky_fails: whether a test that failed first and then passed fails the run.
        slow_s: after how many seconds to report a running test as slow; 0 for never.
        shards_by_process: whether each process that torchrun started runs its own part of the
            tests (--shard auto), instead of being a rank.
        junit, html, trace, records: paths of reports; None for none.
        history: the history file; None for the one in the user's cache folder.
        keeps_history: whether to read and write it.
        checkout: a PyTorch checkout, whose tests were written for PyTorch's own harness.
        compare: run them with both harnesses and print the differences.
        json: print the comparison as JSON.
        with_torchs: run them with PyTorch's harness only.
        results: file for a JSON line about each test; None for none.
    """

    names: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    verbose: bool = False
    max_fail: int | None = None
    max_skips: int | None = None
    list_only: bool = False
    seed: int | None = None
    timeout_s: float | None = None
    test_timeout_s: float | None = None
    run_timeout_s: float | None = None
    isolation: str | None = None
    audit: str | None = None
    accept: bool = False
    live_output: bool = False
    jobs: int | None = None
    max_ranks: int | None = None
    devices: tuple[str, ...] | None = None
    rerun_failed: bool = False
    failed_first: bool = False
    shard: tuple[int, int] | None = None
    shards_by_process: bool = False
    insecure_world: bool = False
    shuffle: bool = False
    repeat: int = 1
    stress_s: float | None = None
    retries: int = 0
    flaky_fails: bool = False
    slow_s: float = 10.0
    junit: str | None = None
    html: str | None = None
    trace: str | None = None
    records: str | None = None
    history: str | None = None
    keeps_history: bool = True
    checkout: str | None = None
    compare: bool = False
    json: bool = False
    with_torchs: bool = False
    results: str | None = None

    @property
    def wants_timeline(self) -> bool:
        """Whether a report needs the ranks' timelines."""
        return bool(self.junit or self.html or self.trace or self.records)


# A rank test mostly waits, for processes to start and for other ranks, so two tests for each core
# keep the cores busy. Each worker takes memory, hence the maximum.
_JOBS_PER_CORE = 2
_MAX_JOBS = 16
_RANKS_PER_CORE = 8


def jobs_for(options: Options, is_script: bool) -> int:
    """Return how many tests run at once; 0 to run all of them in this process."""
    if options.jobs is not None:
        return options.jobs
    if options.list_only or (is_script and not _needs_workers(options)):
        return 0
    if options.live_output or is_accepting():
        return 1  # live output must not mix, and two tests must not edit a file at once (--accept)
    if options.checkout is not None:
        return 1  # some of PyTorch's tests use the same fixed port
    return min(_JOBS_PER_CORE * core_count(), _MAX_JOBS)


def _needs_workers(options: Options) -> bool:
    return options.retries > 0 or options.test_timeout_s is not None


def max_ranks_for(options: Options) -> int:
    """Return how many ranks may be alive at once."""
    return options.max_ranks or _RANKS_PER_CORE * core_count()


@dataclass(frozen=True)
class Limits:
    """Time limits of a run.

    Attributes:
        test_s: time limit for a whole test with its fixtures, in seconds; None for no limit.
        run: when the run must end.
    """

    test_s: float | None = None
    run: Deadline = NEVER
