"""What a process takes over from its parent: environment, current folder, `sys.path`, arguments."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The surroundings of a process at one moment.

    Attributes:
        environ: its whole environment.
        cwd: its current folder.
        sys_path: its `sys.path`, with the current folder in place of "".
        argv: its `sys.argv`.
    """

    environ: Mapping[str, str]
    cwd: str
    sys_path: tuple[str, ...]
    argv: tuple[str, ...] = ()

    @classmethod
    def now(cls, environ: Mapping[str, str] | None = None) -> Surroundings:
        """Return the surroundings of this process, by default with its own environment."""
        cwd = os.getcwd()
        return cls(
            dict(os.environ if environ is None else environ),
            cwd,
            tuple(entry or cwd for entry in sys.path),
            tuple(sys.argv),
        )
