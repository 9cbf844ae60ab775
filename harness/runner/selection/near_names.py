"""The names of tests that are nearly the one that the user typed."""

from __future__ import annotations

import difflib
from collections.abc import Sequence


def nearest(name: str, ids: Sequence[str]) -> str:
    """Return the end of a message that offers the nearest names; empty if none is near.

    Args:
        name: as typed; upper and lower case do not matter.
        ids: of the tests that there are.
    """
    by_lower = {run.lower(): run for run in _runs_of_parts(ids)}
    near = difflib.get_close_matches(name.lower(), sorted(by_lower), n=3, cutoff=0.5)
    return f"; the nearest names are {', '.join(by_lower[run] for run in near)}" if near else ""


def _runs_of_parts(ids: Sequence[str]) -> set[str]:
    """Every name by which one of these tests, its class or its module can be called."""
    runs: set[str] = set()
    for parts in (test_id.split(".") for test_id in ids):
        for start in range(len(parts)):
            runs.update(".".join(parts[start:end]) for end in range(start + 1, len(parts) + 1))
    return runs
