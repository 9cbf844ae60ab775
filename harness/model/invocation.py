"""Remember the command and the folder with which the user started the tests.

Reports print the command that reruns a test (`rerun`), and paths relative to that folder.
"""

from __future__ import annotations

import os
import sys


def _current_folder() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return ""


# In a worker process, the command that started the runner; None in the user's own process.
_command: list[str] | None = None
# Tests may change the current folder, so it is read on import.
_folder = _current_folder()


def set_invocation(command: list[str], folder: str) -> None:
    """Set the command and the folder in a worker, which the user has not started directly.

    Args:
        command: the result of `runner()` in the user's process.
        folder: the result of `folder()` in the user's process.
    """
    global _command, _folder
    _command, _folder = list(command), folder


def folder() -> str:
    """Return the folder in which the user started the tests."""
    return _folder or os.getcwd()


def runner() -> list[str]:
    """Return the command without test names: `python run_tests.py`, `python -m unittest`."""
    if _command is not None:
        return list(_command)
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name == "harness.__main__":
        return ["python", "-m", "harness"]
    file = getattr(main, "__file__", None) or ""
    if os.path.basename(file) == "run_tests.py":
        return ["python", short_path(file)]
    return ["python", "-m", "unittest"]


def short_path(file: str, base: str = "") -> str:
    """Return a path relative to a folder, or the absolute path if that is shorter.

    Args:
        file: the path.
        base: the folder; by default the one in which the user started the tests.
    """
    file = os.path.abspath(file)
    relative = os.path.relpath(file, base or folder())
    return relative if len(relative) < len(file) else file
