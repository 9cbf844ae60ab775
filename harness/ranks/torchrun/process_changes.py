"""Apply changes of rank 0's environment, folder and sys.path to the other processes.

These differ from host to host, so they cannot be copied. Instead, rank 0 sends what has changed
since the start of the run, and the others change the same before they run a test.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Surroundings:
    """The environment, folder and sys.path of a process at one moment.

    Attributes:
        environ: its environment.
        cwd: its current folder.
        sys_path: its `sys.path`.
    """

    environ: Mapping[str, str]
    cwd: str
    sys_path: tuple[str, ...]

    @classmethod
    def now(cls) -> Surroundings:
        """Return those of this process."""
        return cls(dict(os.environ), os.getcwd(), tuple(entry or os.getcwd() for entry in sys.path))

    def changes_to(self, other: Surroundings) -> dict[str, Any]:
        """Return what is different in `other`, as JSON data."""
        gone = [name for name in self.environ if name not in other.environ]
        changed = {k: v for k, v in other.environ.items() if self.environ.get(k) != v}
        return {
            "unset": gone,
            "set": changed,
            "cwd": self._path(other.cwd),
            "sys_path": [self._entry(path) for path in other.sys_path],
        }

    def _entry(self, path: str) -> int | list[str]:
        """Return an entry of `sys.path`: the index of one of ours, or the entry itself."""
        known = self.sys_path.index(path) if path in self.sys_path else None
        return self._path(path) if known is None else known

    def _path(self, path: str) -> list[str]:
        """Return a path relative to our folder, marked as such; any other path as it is."""
        inside = path == self.cwd or path.startswith(self.cwd + os.sep)
        return ["inside", os.path.relpath(path, self.cwd)] if inside else ["", path]

    def changed_by(self, changes: Mapping[str, Any]) -> Surroundings:
        """Return these with the changes that `changes_to` has found in another process."""
        kept = {k: v for k, v in self.environ.items() if k not in changes["unset"]}
        path = [self._known(entry) for entry in changes["sys_path"]]
        return Surroundings(
            {**kept, **changes["set"]},
            self._own(changes["cwd"]),
            tuple(entry for entry in path if entry),
        )

    def _known(self, entry: int | Sequence[str]) -> str:
        if isinstance(entry, int):
            return self.sys_path[entry] if entry < len(self.sys_path) else ""
        return self._own(entry)

    def _own(self, marked: Sequence[str]) -> str:
        mark, path = marked
        return os.path.normpath(os.path.join(self.cwd, path)) if mark else path
