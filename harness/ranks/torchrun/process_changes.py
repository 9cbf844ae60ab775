"""Apply changes of rank 0's environment, folder and sys.path to the other processes.

These differ from host to host, so they cannot be copied. Instead, rank 0 sends what has changed
since the start of the run, and the others change the same before they run a test.
"""

from __future__ import annotations

import os

import msgspec

from harness.model.surroundings import Surroundings


class SentPath(msgspec.Struct, frozen=True):
    """A path of rank 0; relative if it is inside the folder in which rank 0 started."""

    path: str
    is_inside: bool


class ProcessChanges(msgspec.Struct, frozen=True):
    """What has changed at rank 0 since the start of the run.

    Attributes:
        unset: the variables that no longer exist.
        set: the variables that are new or have another value.
        cwd: the current folder.
        sys_path: all of `sys.path`; a number stands for that entry of the path at the start.
        argv: all of `sys.argv`.
    """

    unset: tuple[str, ...]
    set: dict[str, str]
    cwd: SentPath
    sys_path: tuple[int | SentPath, ...]
    argv: tuple[str, ...]


def changes(base: Surroundings, now: Surroundings) -> ProcessChanges:
    """Return what has changed in this process since its base."""
    return ProcessChanges(
        tuple(name for name in base.environ if name not in now.environ),
        {k: v for k, v in now.environ.items() if base.environ.get(k) != v},
        _sent(now.cwd, base),
        tuple(
            base.sys_path.index(path) if path in base.sys_path else _sent(path, base)
            for path in now.sys_path
        ),
        now.argv,
    )


def _sent(path: str, base: Surroundings) -> SentPath:
    is_inside = path == base.cwd or path.startswith(base.cwd + os.sep)
    return SentPath(os.path.relpath(path, base.cwd) if is_inside else path, is_inside)


def changed_by(changes: ProcessChanges, base: Surroundings) -> Surroundings:
    """Return the base of this process with the changes that rank 0 has sent."""
    kept = {k: v for k, v in base.environ.items() if k not in changes.unset}
    path = [_received(entry, base) for entry in changes.sys_path]
    return Surroundings(
        {**kept, **changes.set},
        _received(changes.cwd, base),
        tuple(entry for entry in path if entry),
        changes.argv,
    )


def _received(sent: int | SentPath, base: Surroundings) -> str:
    """Return the path here; empty if this process has no such entry in its `sys.path`."""
    if isinstance(sent, int):
        return base.sys_path[sent] if 0 <= sent < len(base.sys_path) else ""
    inside = os.path.join(base.cwd, sent.path)
    return os.path.normpath(inside) if sent.is_inside else sent.path
