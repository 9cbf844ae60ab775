"""How the user started the tests: the words with which a single one can be started again."""

from __future__ import annotations

import os
import sys


def _current_folder() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return ""


_told: list[str] | None = None
_folder = _current_folder()


def tell(command: list[str], folder: str) -> None:
    """Say it for this process, which the user has not started.

    Args:
        command: what `runner()` says where the user has started it.
        folder: what `folder()` says there.
    """
    global _told, _folder
    _told, _folder = list(command), folder


def folder() -> str:
    """Where the user is: a test module, or a test, may go elsewhere with this process."""
    return _folder or os.getcwd()


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


def short_path(file: str, base: str = "") -> str:
    """The path as seen from a folder (by default the user's), or the whole one if it is shorter."""
    file = os.path.abspath(file)
    relative = os.path.relpath(file, base or folder())
    return relative if len(relative) < len(file) else file
