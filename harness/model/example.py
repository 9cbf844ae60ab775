"""One example of a property test, and what its body reports to Hypothesis in a rank."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Remarks:
    """What the body told Hypothesis in one rank.

    Attributes:
        rejected: the assumption that did not hold, in words; empty if all held.
        location: where it was made, as `file:line`.
        notes: what `note()` was told, as text.
        events: what `event()` was told, to its payload.
        targets: label to what `target()` was told.
        returned: what the body returned, as text; empty for None.
    """

    rejected: str = ""
    location: str = ""
    notes: list[str] = field(default_factory=list)
    events: dict[str, Any] = field(default_factory=dict)
    targets: dict[str, float] = field(default_factory=dict)
    returned: str = ""


@dataclass
class Example:
    """One example as a rank gets it.

    Attributes:
        values: the arguments by name, pickled.
        wants_notes: whether notes will be shown.
        remarks: what the body reports.
    """

    values: bytes
    wants_notes: bool = True
    remarks: Remarks = field(default_factory=Remarks)
