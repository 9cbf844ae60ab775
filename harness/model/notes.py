"""Remarks that a test leaves for the summary, such as a skip that Sandcastle turned into a pass.

A runner empties the list after each test; without a runner nobody reads it, and it stays short.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Note:
    """One remark.

    Attributes:
        kind: what kind of remark; the summary counts by it.
        text: the remark.
    """

    kind: str
    text: str


SANDCASTLE_PASS = "passed instead of skipped (Sandcastle)"

_MANY = 1000
_notes: deque[Note] = deque(maxlen=_MANY)


def leave(kind: str, text: str) -> None:
    """Leave a remark."""
    _notes.append(Note(kind, text))


def take() -> list[Note]:
    """All remarks since the last call."""
    taken = list(_notes)
    _notes.clear()
    return taken
