"""Warnings of ranks in the parent: what ranks need to know of its filters, and what they showed."""

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
    """What ranks that are launched now need to know, as data that JSON can carry."""
    return {
        "filters": current_filters(),
        "options": list(sys.warnoptions),
        "not_imported": launcher().not_imported_here(),
    }


def show_warnings(ranks: Iterable[WatchedRank]) -> None:
    """Show what the ranks of a test that has ended have warned of."""
    found = RankWarnings()
    found.add(ranks)
    found.show()


class RankWarnings:
    """The warnings that the ranks of one test have shown."""

    def __init__(self) -> None:
        self._ranks: dict[IssuedWarning, set[int]] = {}

    def add(self, ranks: Iterable[WatchedRank]) -> None:
        """Take in what these ranks have shown."""
        for rank in ranks:
            for warning in rank.warnings:
                self._ranks.setdefault(warning, set()).add(rank.rank)

    def show(self) -> None:
        """Show each of them once, as this process shows warnings, with the ranks after its text.

        The filters have been asked in the ranks. Whoever records warnings here (pytest, or
        `warnings.catch_warnings(record=True)`) records these.
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
        except Exception:  # a category whose constructor wants other arguments
            message = None
        if message is not None and str(message) == text:
            return message
    return UserWarning(f"{category.replace(':', '.')}: {text}")
