"""One example of a property test, and what the body tells Hypothesis while it runs in a rank.

Hypothesis runs in the parent. The ranks collect calls of `assume()`, `note()`, `event()` and
`target()` as `Remarks`, and the parent repeats them (`cases/properties/property_tests.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Remarks:
    """The calls of Hypothesis's functions in one rank.

    Attributes:
        rejected: the assumption that failed, as text; empty if none failed.
        location: the `file:line` of that assumption.
        notes: the arguments of `note()`, as text.
        events: the arguments of `event()`: value to payload.
        targets: the arguments of `target()`: label to observation.
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
    """One example that a rank runs.

    Attributes:
        values: the arguments by name, pickled.
        wants_notes: whether Hypothesis will print notes, so that the rank must collect them.
        remarks: the calls of Hypothesis's functions in the body so far.
    """

    values: bytes
    wants_notes: bool = True
    remarks: Remarks = field(default_factory=Remarks)
