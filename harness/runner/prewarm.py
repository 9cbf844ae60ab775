"""Start the fork server early, so that it imports torch and the tests while the runner goes on."""

from __future__ import annotations

from collections.abc import Sequence

from harness.runner.selection.files import TestFile

# Searching the source text is enough: a wrong guess only costs time.
_RANK_MARKERS = (b"MultiProc", b"DistributedTestBase")
_TORCH_MARKERS = (b"torch", b"harness")

_WORKER = "harness.runner.workers.worker_main"


def prewarm(files: Sequence[TestFile], with_workers: bool) -> None:
    """Start the fork server for these files.

    Args:
        files: the files of the run.
        with_workers: whether the tests run in workers, which the fork server starts too. Otherwise
            it is started only if some of the files seem to have rank tests.
    """
    chosen = files if with_workers else [file for file in files if _has_any(file, _RANK_MARKERS)]
    if not chosen and not with_workers:
        return
    from harness.ranks.launch.launcher import launcher

    for file in chosen:
        file.put_on_path()
    if with_workers:
        launcher().also_import(_WORKER)
        # A suite without torch should not wait for torch's import.
        if not any(_has_any(file, _TORCH_MARKERS) for file in files):
            launcher().expect_no_ranks()
    launcher().need(file.module for file in chosen)
    launcher().prewarm()


def prewarm_for_script() -> None:
    """Start the fork server for the tests of `__main__`, which will run in workers."""
    from harness.ranks.launch.launcher import launcher

    launcher().also_import(_WORKER, "__main__")
    launcher().prewarm()


def _has_any(file: TestFile, signs: Sequence[bytes]) -> bool:
    try:
        text = file.path.read_bytes()
    except OSError:
        return False
    return any(sign in text for sign in signs)
