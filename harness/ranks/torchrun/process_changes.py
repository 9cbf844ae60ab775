"""Apply changes of rank 0's environment, folder and sys.path to the other processes.

These differ from host to host, so they cannot be copied. Instead, rank 0 sends what has changed
since the start of the run, and the others change the same before they run a test.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from harness.model.surroundings import Surroundings


def changes(base: Surroundings, now: Surroundings) -> dict[str, Any]:
    """Return what has changed in a process since its base, as JSON data."""
    return {
        "unset": [name for name in base.environ if name not in now.environ],
        "set": {k: v for k, v in now.environ.items() if base.environ.get(k) != v},
        "cwd": _marked(now.cwd, base),
        "sys_path": [_entry(path, base) for path in now.sys_path],
        "argv": list(now.argv),
    }


def _entry(path: str, base: Surroundings) -> int | list[str]:
    """Return an entry of `sys.path`: the index of one of the base, or the entry itself."""
    return base.sys_path.index(path) if path in base.sys_path else _marked(path, base)


def _marked(path: str, base: Surroundings) -> list[str]:
    """Return a path relative to the base's folder, marked as such; any other path as it is."""
    inside = path == base.cwd or path.startswith(base.cwd + os.sep)
    return ["inside", os.path.relpath(path, base.cwd)] if inside else ["", path]


def changed_by(changes: Mapping[str, Any], base: Surroundings) -> Surroundings:
    """Return the base of this process with the changes that another process has found."""
    kept = {k: v for k, v in base.environ.items() if k not in changes["unset"]}
    path = [_known(entry, base) for entry in changes["sys_path"]]
    return Surroundings(
        {**kept, **changes["set"]},
        _own(changes["cwd"], base),
        tuple(entry for entry in path if entry),
        tuple(changes["argv"]),
    )


def _known(entry: int | Sequence[str], base: Surroundings) -> str:
    if isinstance(entry, int):
        return base.sys_path[entry] if entry < len(base.sys_path) else ""
    return _own(entry, base)


def _own(marked: Sequence[str], base: Surroundings) -> str:
    mark, path = marked
    return os.path.normpath(os.path.join(base.cwd, path)) if mark else path
