"""Check between two tests, in a reused rank, that the first one has left no state behind."""

from __future__ import annotations

import ctypes
import faulthandler
import sys

from harness.ranks.child import torch_state
from harness.ranks.child.kept_group import RankGroups
from harness.ranks.child.state import Differences, RankState, probes
from harness.ranks.process_exit import flush_output

_libc = ctypes.CDLL(None)


class StateCheck:
    """Compares the state of a reused rank before and after each of its tests.

    States, per test:

        idle     _before is None; _proved is the state after the last test, if that left nothing
        noted    begin_test() has taken _before; the body runs
        idle     end_test() has compared the state with _before

    begin_test() passes _proved on, so that a clean rank compares only what the harness itself has
    changed since.

    Args:
        groups: the process groups of this rank.
    """

    def __init__(self, groups: RankGroups) -> None:
        self._probes = probes(groups)
        self._before: RankState | None = None
        self._proved: RankState | None = None

    def begin_test(self) -> None:
        """Record the state before a test."""
        self._before = RankState(self._probes, self._proved)

    def note_environment(self) -> None:
        """Record the environment again, since the class, not the test, has changed it so far.

        Called before every example of a property test. Only the first call counts: later changes
        are the test's own.
        """
        if self._before is not None:
            self._before.take_environment()

    def end_test(self) -> Differences:
        """Return what the test has left behind."""
        if torch_state.is_own_hook(sys.excepthook):
            sys.excepthook = sys.__excepthook__  # torch wraps it again for every new process group
        faulthandler.cancel_dump_traceback_later()  # it would dump into, or end, the next test
        assert self._before is not None
        left = self._before.differences()
        self._proved = None if left else self._before
        self._before = None
        # Python's and C's buffers belong into the log files of this test.
        flush_output()
        _libc.fflush(None)
        return left
