"""Record what this process communicates during a test, at the level of the audit.

off       nothing
record    read from torch's flight recorder when the test has passed
full      seen call by call (`c10d_calls.py`); what torch does not allow there is left to `record`
"""

from __future__ import annotations

import time

from harness.diagnosis import recorder, snapshot
from harness.model.communication import FULL, OFF, CommunicationRecord
from harness.ranks import c10d_calls
from harness.ranks.call_recorder import CallRecorder
from harness.ranks.tensor_watch import watch_tensors


class Audit:
    """The record of one test, or of one example of a property test.

    Args:
        level: one of `AUDIT_LEVELS`.

    Attributes:
        calls: records the calls; None if the level is not `full`, or the test has ended.
    """

    def __init__(self, level: str = OFF) -> None:
        self._level = level
        self._since_ns = time.time_ns()
        is_full = level == FULL and c10d_calls.install()
        self.calls = CallRecorder() if is_full else None

    def exempt(self, begins: bool) -> None:
        """Begin or end a part of the test whose calls are left out of the record."""
        if self.calls is not None:
            self.calls.exempt(begins)
        else:
            self._level = OFF  # the flight recorder cannot leave them out

    def end(self) -> CommunicationRecord | None:
        """Stop recording; return the record, or None if there is none (any more)."""
        calls, level = self.calls, self._level
        self.calls, self._level = None, OFF
        if calls is not None:
            watch_tensors(False)
            return calls.finish()
        if level == OFF:
            return None
        return recorder.record(self._since_ns, snapshot.take_groups().groups)
