"""Collect notes of tests for the runner's summary: a skip that Sandcastle turned into a pass.

The runner takes the notes after each test. Under unittest and pytest nobody does, so the list has a
maximum length.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Note:
    """One note.

    Attributes:
        kind: the kind of note; the summary counts the notes of each kind.
        text: the note.
    """

    kind: str
    text: str


SANDCASTLE_PASS = "passed instead of skipped (Sandcastle)"

_MAX_NOTES = 1000
_notes: deque[Note] = deque(maxlen=_MAX_NOTES)


def add(kind: str, text: str) -> None:
    """Add a note."""
    _notes.append(Note(kind, text))


def take() -> list[Note]:
    """Return the notes since the last call, and forget them."""
    taken = list(_notes)
    _notes.clear()
    return taken
