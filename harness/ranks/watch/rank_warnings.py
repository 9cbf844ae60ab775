"""Show the warnings of ranks in the parent, and send its filters to the ranks."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable
from typing import Any

from harness.diagnosis.words import rank_list
from harness.model.warning_data import IssuedWarning, category_of, current_filters
from harness.ranks.launch.launcher import launcher
from harness.ranks.watch.watched_rank import WatchedRank


def launch_data() -> dict[str, Any]:
    """Return the parent's warning filters and options, as JSON data for new ranks."""
    return {
        "filters": current_filters(),
        "options": list(sys.warnoptions),
        "not_imported": launcher().not_imported_here(),
    }


def show_warnings(ranks: Iterable[WatchedRank]) -> None:
    """Show the warnings of the ranks of a test that has ended."""
    found = RankWarnings()
    found.add(ranks)
    found.show()


class RankWarnings:
    """The warnings of the ranks of one test."""

    def __init__(self) -> None:
        self._ranks: dict[IssuedWarning, set[int]] = {}

    def add(self, ranks: Iterable[WatchedRank]) -> None:
        """Add the warnings of these ranks."""
        for rank in ranks:
            for warning in rank.warnings:
                self._ranks.setdefault(warning, set()).add(rank.rank)

    def show(self) -> None:
        """Show each warning once, with its ranks after the text, as this process shows warnings.

        The ranks have applied the filters already. pytest and
        `warnings.catch_warnings(record=True)` in this process record the warnings, too.
        """
        shown, self._ranks = self._ranks, {}
        for issued, ranks in shown.items():
            text = f"{issued.text} ({rank_list(sorted(ranks))})"
            message = _message(issued.category, text)
            warnings.showwarning(message, type(message), issued.file, issued.line)


def _message(category: str, text: str) -> Warning:
    kind = category_of(category)
    if kind is not None:
        try:
            message = kind(text)
        except Exception:  # a category whose constructor needs other arguments
            message = None
        if message is not None and str(message) == text:
            return message
    return UserWarning(f"{category.replace(':', '.')}: {text}")
