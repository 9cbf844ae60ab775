"""Apply the parent's warning filters in a rank, and let the parent show the rank's warnings.

The filter "error" raises in the rank, at the line that warns. Other warnings would go to the rank's
stderr, which nobody reads if the test passes. So they go to the parent, which shows them.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Mapping
from typing import Any, TextIO

from harness.model.warning_data import IssuedWarning, category_name, set_filters
from harness.ranks.child.rank_pipe import RankPipe
from harness.ranks.launch import preload

# Limits for the warnings of one test. A test that warns without end, each time with another text,
# must not fill the memory of its parent.
_MAX_WARNINGS = 100
_MAX_TEXT = 10_000

_original_showwarning = warnings.showwarning


def begin(pipe: RankPipe, data: Mapping[str, Any]) -> None:
    """Apply the parent's filters before a test, and report the warnings that they show.

    Args:
        pipe: the channel to the parent.
        data: the result of `harness.ranks.watch.rank_warnings.launch_data` in the parent.
    """
    sys.warnoptions[:] = data["options"]
    # If the fork server has imported a module that the parent has not, its filters count as added
    # by the test, which would import the module in a fresh process.
    added = [preload.filters_of(name) for name in data["not_imported"]]
    set_filters(data["filters"], [item for filters in reversed(added) for item in filters])
    warnings.showwarning = _WarningReporter(pipe)


class _WarningReporter:
    """Replaces `warnings.showwarning` in a rank."""

    def __init__(self, pipe: RankPipe) -> None:
        self._pipe = pipe
        self._pid = os.getpid()
        self._reported: set[IssuedWarning] = set()

    def __call__(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if file is not None or os.getpid() != self._pid:
            # The caller has chosen a file, or this is a process that the test has forked.
            _original_showwarning(message, category, filename, lineno, file, line)
            return
        text = str(message)
        if len(text) > _MAX_TEXT:
            text = f"{text[:_MAX_TEXT]}… ({len(text)} characters)"
        issued = IssuedWarning(category_name(category), text, filename, lineno)
        if issued in self._reported:
            return
        self._reported.add(issued)
        if len(self._reported) <= _MAX_WARNINGS:
            self._pipe.send_warning(issued)
        elif len(self._reported) == _MAX_WARNINGS + 1:
            text = (
                f"this rank issues more than {_MAX_WARNINGS} different warnings; the others are "
                "not shown"
            )
            self._pipe.send_warning(IssuedWarning("builtins:UserWarning", text, filename, lineno))
        else:
            self._reported.discard(
                issued
            )  # a test that warns without end must not use up the memory
