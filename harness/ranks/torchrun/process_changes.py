"""What surrounds a process, and what has changed of it since, so that another can change likewise.

The processes of a given world each have their own environment, folder and path, which differ from
host to host. What a test changes of rank 0's is changed in the others before they run it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Surroundings:
    """Of one process at one moment.

    Attributes:
        environ: its environment.
        cwd: its current folder.
        sys_path: where it looks for modules.
    """

    environ: Mapping[str, str]
    cwd: str
    sys_path: tuple[str, ...]

    @classmethod
    def now(cls) -> Surroundings:
        """Those of this process."""
        return cls(dict(os.environ), os.getcwd(), tuple(entry or os.getcwd() for entry in sys.path))

    def changes_to(self, other: Surroundings) -> dict[str, Any]:
        """What is different in the other ones, as data that JSON can carry."""
        gone = [name for name in self.environ if name not in other.environ]
        changed = {k: v for k, v in other.environ.items() if self.environ.get(k) != v}
        return {
            "unset": gone,
            "set": changed,
            "cwd": self._path(other.cwd),
            "sys_path": [self._entry(path) for path in other.sys_path],
        }

    def _entry(self, path: str) -> int | list[str]:
        """An entry of the path: the number of one of ours, or what it is."""
        known = self.sys_path.index(path) if path in self.sys_path else None
        return self._path(path) if known is None else known

    def _path(self, path: str) -> list[str]:
        """A path in our folder as seen from there, with a mark; any other as it is."""
        inside = path == self.cwd or path.startswith(self.cwd + os.sep)
        return ["inside", os.path.relpath(path, self.cwd)] if inside else ["", path]

    def changed_by(self, changes: Mapping[str, Any]) -> Surroundings:
        """These with the changes that `changes_to` has found elsewhere."""
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
