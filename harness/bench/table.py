"""The results of a benchmark, as a table for people or as data for programs."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from typing import Any

from harness.model.cores import core_count


@dataclass
class Report:
    """Rows of figures under named columns.

    Attributes:
        title: what was measured.
        columns: heading of each column.
        rows: one value for each column; numbers or text.
        notes: what a reader has to know.
    """

    title: str
    columns: list[str]
    rows: list[list[Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def text(self) -> str:
        """Return the table in Markdown."""
        cells = [self.columns, *([_shown(value) for value in row] for row in self.rows)]
        widths = [max(len(row[i]) for row in cells) for i in range(len(self.columns))]
        lines = [_line(row, widths) for row in cells]
        lines.insert(1, _line(["-" * width for width in widths], widths))
        return "\n".join([self.title, machine(), "", *lines, "", *self.notes]).rstrip()

    def data(self) -> dict[str, Any]:
        rows = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
        return {"title": self.title, "machine": machine(), "rows": rows, "notes": self.notes}


def _line(row: list[str], widths: list[int]) -> str:
    return (
        "| " + " | ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) + " |"
    )


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
    return str(value)


def machine() -> str:
    """Return one line about the machine and the versions that the figures come from."""
    import torch

    return (
        f"{core_count()} cores, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}, torch {torch.__version__}"
    )
