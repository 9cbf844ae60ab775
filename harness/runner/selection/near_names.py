"""Suggest the names of tests that are similar to what the user typed."""

from __future__ import annotations

import difflib
from collections.abc import Sequence


def nearest(name: str, ids: Sequence[str]) -> str:
    """Return the end of a message that suggests similar names; empty if there are none.

    Args:
        name: the name as typed; case does not matter.
        ids: the ids of all tests.
    """
    by_lower = {run.lower(): run for run in _selecting_names(ids)}
    near = difflib.get_close_matches(name.lower(), sorted(by_lower), n=3, cutoff=0.5)
    return f"; the nearest names are {', '.join(by_lower[run] for run in near)}" if near else ""


def _selecting_names(ids: Sequence[str]) -> set[str]:
    """Return all names that select one of these tests, its class or its module."""
    runs: set[str] = set()
    for parts in (test_id.split(".") for test_id in ids):
        for start in range(len(parts)):
            runs.update(".".join(parts[start:end]) for end in range(start + 1, len(parts) + 1))
    return runs
