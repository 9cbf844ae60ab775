"""What the modules that a fork server imports do to its process, so that its forks can keep it.

A test module may set variables of the environment, extend `sys.path` or change the current folder
while it is imported. A worker, which runs tests in place of the user's own process, keeps that.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class ProcessState:
    """Of a process, what modules change while they are imported, apart from what forks inherit.

    Attributes:
        environ: its environment.
        cwd: its current folder.
        sys_path, argv: `sys.path` and `sys.argv`.
    """

    environ: Mapping[str, str]
    cwd: str
    sys_path: Sequence[str]
    argv: Sequence[str]

    @classmethod
    def now(cls) -> ProcessState:
        """That of this process."""
        return cls(dict(os.environ), os.getcwd(), tuple(sys.path), tuple(sys.argv))


_before: ProcessState | None = None
_after: ProcessState | None = None


@contextlib.contextmanager
def recorded() -> Iterator[None]:
    """Record what is changed meanwhile; the last time counts."""
    global _before, _after
    _before = ProcessState.now()
    try:
        yield
    finally:
        _after = ProcessState.now()


def with_changes(state: ProcessState) -> ProcessState:
    """Return the state with the changes that the fork server's imports have made.

    Args:
        state: the state of the runner, which has not imported the test modules.
    """
    before, after = _before, _after
    if before is None or after is None:
        return state
    if after.cwd != before.cwd:
        state = replace(state, cwd=after.cwd)
    if after.argv != before.argv:
        state = replace(state, argv=after.argv)
    if after.sys_path != before.sys_path:
        later = [entry for entry in state.sys_path if entry not in before.sys_path]
        state = replace(state, sys_path=(*later, *after.sys_path))
    gone = before.environ.keys() - after.environ.keys()
    kept = {name: value for name, value in state.environ.items() if name not in gone}
    changed = {k: v for k, v in after.environ.items() if before.environ.get(k) != v}
    return replace(state, environ={**kept, **changed})
