"""A head start: the fork server imports torch and the tests as soon as it is known which."""

from __future__ import annotations

from collections.abc import Sequence

from harness.runner.selection.files import TestFile

# A look at the text is enough to decide about a head start; a wrong guess costs only time.
_RANKS = (b"MultiProc", b"DistributedTestBase")
_TORCH = (b"torch", b"harness")

_WORKER = "harness.runner.workers.worker_main"


def prewarm(files: Sequence[TestFile], with_workers: bool) -> None:
    """Start the fork server for these files.

    Args:
        files: the files of the run.
        with_workers: whether the tests run in workers, which come out of the server, too; else it
            is started only if some of the files look as if they had rank tests.
    """
    chosen = files if with_workers else [file for file in files if _has_any(file, _RANKS)]
    if not chosen and not with_workers:
        return
    from harness.ranks.launch.launcher import launcher

    for file in chosen:
        file.put_on_path()
    if with_workers:
        launcher().also_import(_WORKER)
        if not any(_has_any(file, _TORCH) for file in files):
            launcher().expect_no_ranks()
    launcher().need(file.module for file in chosen)
    launcher().prewarm()


def prewarm_for_script() -> None:
    """Start the fork server for the tests of `__main__`, which are to run in workers."""
    from harness.ranks.launch.launcher import launcher

    launcher().also_import(_WORKER, "__main__")
    launcher().prewarm()


def _has_any(file: TestFile, signs: Sequence[bytes]) -> bool:
    try:
        text = file.path.read_bytes()
    except OSError:
        return False
    return any(sign in text for sign in signs)
