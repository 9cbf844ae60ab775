"""Remember how the user started the tests, for the command that reruns one of them."""

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
    """Set the command and folder in a process that the user has not started directly.

    Args:
        command: the value of `runner()` in the user's process.
        folder: the value of `folder()` in the user's process.
    """
    global _told, _folder
    _told, _folder = list(command), folder


def folder() -> str:
    """Return the folder in which the user started the tests; a test may change the current one."""
    return _folder or os.getcwd()


def runner() -> list[str]:
    """Return the command without test names: `python run_tests.py`, `python -m unittest`."""
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
