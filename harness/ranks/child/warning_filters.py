"""Warnings in a rank: the parent's filters decide about them, and the parent shows them.

A filter that makes errors of warnings does so here, at the line that warns. What is shown would go
to the rank's stderr, which nobody reads of a test that passes; it goes to the parent instead.
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

# How many different warnings of one test a rank tells of, and how long their texts may be.
_MOST = 100
_LONGEST = 10_000

_plain_show = warnings.showwarning


def begin(pipe: RankPipe, data: Mapping[str, Any]) -> None:
    """A test begins: take over the parent's filters, and have it told of what they show.

    Args:
        pipe: the channel to the parent.
        data: what `harness.ranks.watch.rank_warnings.launch_data` has returned there.
    """
    sys.warnoptions[:] = data["options"]
    # What the fork server has imported, and the parent has not, is as if the test imported it.
    added = [preload.filters_of(name) for name in data["not_imported"]]
    set_filters(data["filters"], [item for filters in reversed(added) for item in filters])
    warnings.showwarning = _WarningReporter(pipe)


class _WarningReporter:
    """Stands for `warnings.showwarning` in a rank."""

    def __init__(self, pipe: RankPipe) -> None:
        self._pipe = pipe
        self._pid = os.getpid()
        self._told: set[IssuedWarning] = set()

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
            # The caller says where to; or a process that the test has forked has warned.
            _plain_show(message, category, filename, lineno, file, line)
            return
        text = str(message)
        if len(text) > _LONGEST:
            text = f"{text[:_LONGEST]}… ({len(text)} characters)"
        issued = IssuedWarning(category_name(category), text, filename, lineno)
        if issued in self._told:
            return
        self._told.add(issued)
        if len(self._told) <= _MOST:
            self._pipe.send_warning(issued)
        elif len(self._told) == _MOST + 1:
            text = (
                f"this rank issues more than {_MOST} different warnings; the others are not shown"
            )
            self._pipe.send_warning(IssuedWarning("builtins:UserWarning", text, filename, lineno))
        else:
            self._told.discard(issued)  # a test that warns without end must not use up the memory
