"""How the user started the tests: the words with which a single one can be started again."""

from __future__ import annotations

import os
import sys

_told: list[str] | None = None


def tell(command: list[str]) -> None:
    """Say it for this process, which the user has not started."""
    global _told
    _told = list(command)


def runner() -> list[str]:
    """The command, without names of tests: `python run_tests.py`, `python -m unittest`."""
    if _told is not None:
        return list(_told)
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name == "harness.__main__":
        return ["python", "-m", "harness"]
    file = getattr(main, "__file__", None) or ""
    if os.path.basename(file) == "run_tests.py":
        return ["python", short_path(file)]
    return ["python", "-m", "unittest"]


def short_path(file: str, folder: str = ".") -> str:
    """The path as seen from a folder, or the whole one if that is shorter."""
    file = os.path.abspath(file)
    relative = os.path.relpath(file, folder)
    return relative if len(relative) < len(file) else file
