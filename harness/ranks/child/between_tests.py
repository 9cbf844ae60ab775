"""Check between two tests, in a reused rank, that the first one has left no state behind."""

from __future__ import annotations

import ctypes
import faulthandler
import sys

from harness.ranks.child import torch_state
from harness.ranks.child.rank_pipe import RankPipe
from harness.ranks.child.state import RankState
from harness.ranks.process_exit import flush_output

_libc = ctypes.CDLL(None)
# States of this module, per test of a reused rank:
#
#   idle     _before is None; _proved is the state after the last test, if that left nothing
#   noted    note() has taken _before; the body runs
#   idle     park() has compared the state with _before and sent Waits
#
# note() passes _proved on, so that a clean rank compares only what the harness has changed since.
_before: RankState | None = None
_proved: RankState | None = None


def note() -> None:
    """Record the state of this process before a test."""
    global _before
    _before = RankState(_proved)


def note_environment() -> None:
    """Record the environment again, since the class, not the test, has changed it so far.

    Called before every example of a property test. Only the first call counts: later changes are
    the test's own.
    """
    if _before is not None:
        _before.take_environment()


def park(pipe: RankPipe, known_modules: int) -> None:
    """Compare the state after a test, and report to the parent what the test left and imported.

    Args:
        pipe: the channel to the parent.
        known_modules: how many modules there were before the test.
    """
    global _before, _proved
    if torch_state.is_own_hook(sys.excepthook):
        sys.excepthook = sys.__excepthook__  # torch wraps it again for every new process group
    faulthandler.cancel_dump_traceback_later()  # it would dump into, or end, the next test
    assert _before is not None
    left = _before.differences()
    _proved = None if left else _before
    _before = None
    _flush()
    pipe.park(
        left.told(),
        is_clean=not left,
        # sys.modules is in import order, so the new ones come last.
        imported=tuple(sys.modules)[known_modules:],
    )


def _flush() -> None:
    """Flush Python's and C's buffers, so that the output is in the log files of this test."""
    flush_output()
    _libc.fflush(None)
