"""Between two tests in a rank that stays: is everything as it was before the first of them?"""

from __future__ import annotations

import ctypes
import faulthandler
import sys

from harness.ranks.child import torch_state
from harness.ranks.child.rank_pipe import RankPipe
from harness.ranks.child.state import RankState
from harness.ranks.process_exit import flush_output

_libc = ctypes.CDLL(None)
_before: RankState | None = None
_proved: RankState | None = None


def note() -> None:
    """A test is about to begin: keep in mind how everything is."""
    global _before
    _before = RankState(_proved)


def note_environment() -> None:
    """What has been put into the environment by now belongs to the class, not to the test.

    Said before every example of a property test; what the first ones leave is the test's.
    """
    if _before is not None:
        _before.take_environment()


def park(pipe: RankPipe, known_modules: int) -> None:
    """The test has ended: tell the parent what it has left, and what it has imported.

    Args:
        pipe: the channel to the parent.
        known_modules: how many modules there were before the test.
    """
    global _before, _proved
    if torch_state.is_own_hook(sys.excepthook):
        sys.excepthook = sys.__excepthook__  # or every process group would lay one over the last
    faulthandler.cancel_dump_traceback_later()  # or it would end the next test, or print into it
    assert _before is not None
    left = _before.differences()
    _proved = None if left else _before
    _before = None
    _flush()
    pipe.park(
        left.told(),
        is_clean=not left,
        # Modules are listed in the order of their import, so the new ones come last.
        imported=tuple(sys.modules)[known_modules:],
    )


def _flush() -> None:
    """Have what was printed, by native code too, be in the log files of this test."""
    flush_output()
    _libc.fflush(None)
