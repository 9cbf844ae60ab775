"""A head start: the fork server imports torch while the runner is still importing the tests."""

from __future__ import annotations

from collections.abc import Sequence

from harness.runner.files import TestFile

# A look at the text is enough to decide about a head start; a wrong guess costs only time.
_SIGNS = (b"MultiProc", b"DistributedTestBase")


def prewarm(files: Sequence[TestFile]) -> None:
    """Start the fork server for these files if any of them looks as if it had rank tests."""
    with_ranks = [file for file in files if _has_rank_tests(file)]
    if not with_ranks:
        return
    from harness.ranks.launcher import launcher

    for file in with_ranks:
        file.put_on_path()
    launcher().need(file.module for file in with_ranks)
    launcher().prewarm()


def _has_rank_tests(file: TestFile) -> bool:
    try:
        text = file.path.read_bytes()
    except OSError:
        return False
    return any(sign in text for sign in _SIGNS)
