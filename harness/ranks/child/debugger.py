"""Make `breakpoint()` in a rank open a debugger on the parent's terminal."""

from __future__ import annotations

import os
import pdb
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TextIO

from harness.ranks.child.rank import Rank
from harness.ranks.descriptors import TERMINAL


def attach(rank: Rank) -> None:
    """Have `breakpoint()` ask the parent for its terminal, unless PYTHONBREAKPOINT is set."""
    is_ours = getattr(sys.breakpointhook, "__module__", "") == __name__
    if is_ours or os.environ.get("PYTHONBREAKPOINT"):
        return  # set already, or the user has chosen another debugger or none

    def hook(*args: Any, **kwargs: Any) -> None:
        _Debugger(rank).set_trace(sys._getframe(1))

    sys.breakpointhook = hook


class _Debugger(pdb.Pdb):
    """pdb, with the parent's terminal while the user steps through the rank."""

    def __init__(self, rank: Rank) -> None:
        super().__init__(nosigint=True)
        self._rank = rank
        self._terminal: Any = None
        self.prompt = f"(Pdb rank {rank.number}) "

    def interaction(self, frame: FrameType | None, traceback: Any) -> None:
        if self._terminal is None:
            self._rank.take_terminal()
            self._terminal = _terminal()
            self.stdin, self.stdout = self._terminal.__enter__()
        super().interaction(frame, traceback)

    def set_continue(self) -> None:
        super().set_continue()
        if not self.breaks:
            self._give_back()

    def set_quit(self) -> None:
        super().set_quit()
        self._give_back()

    def _give_back(self) -> None:
        if self._terminal is not None:
            terminal, self._terminal = self._terminal, None
            terminal.__exit__(None, None, None)
            self._rank.give_terminal_back()


@contextmanager
def _terminal() -> Iterator[tuple[TextIO, TextIO]]:
    """Replace stdin and stdout by the terminal inside the block, so that line editing works."""
    import readline  # noqa: F401 (input() edits lines once it is imported)

    saved = (os.dup(0), os.dup(1), sys.stdin, sys.stdout)
    device = os.open(TERMINAL, os.O_RDWR)
    sys.stdout.flush()
    os.dup2(device, 0)
    os.dup2(device, 1)
    os.close(device)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", 1, closefd=False)  # noqa: SIM115
    try:
        yield sys.stdin, sys.stdout
    finally:
        sys.stdout.flush()
        stdin, stdout, sys.stdin, sys.stdout = saved
        os.dup2(stdin, 0)
        os.dup2(stdout, 1)
        os.close(stdin)
        os.close(stdout)
