"""Distinguish the user's source files from those of Python, torch and the harness.

Reports show the user's frames and fold the others (`stacks.shown_stack`).
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import sysconfig
import unittest

HARNESS = os.path.join(os.path.dirname(os.path.dirname(__file__)), "")
_UNITTEST = os.path.join(os.path.dirname(unittest.__file__), "")
_STDLIB = os.path.join(sysconfig.get_paths()["stdlib"], "")


def is_torch(filename: str) -> bool:
    """Whether a file belongs to torch."""
    return _is_in_package(filename, "torch")


def is_hypothesis(filename: str) -> bool:
    """Whether a file belongs to Hypothesis."""
    return _is_in_package(filename, "hypothesis")


def is_pytest(filename: str) -> bool:
    """Whether a file belongs to pytest."""
    return _is_in_package(filename, "_pytest")


_MULTIPROCESSING = os.path.join(os.path.dirname(multiprocessing.__file__), "")
# The files of the outermost frames of each process that multiprocessing starts. Its other files
# (queues, pools) are library code that a test may call, so their frames can matter.
_BOOTSTRAP = tuple(_MULTIPROCESSING + name for name in ("process.py", "spawn.py", "forkserver.py"))


def is_machinery(filename: str) -> bool:
    """Whether a file belongs to what runs the test; its frames do not help to debug the test."""
    return filename.startswith((HARNESS, _UNITTEST)) or filename in _BOOTSTRAP


def is_foreign(filename: str) -> bool:
    """Whether a file is not the user's own: Python's, torch's, a test library's, generated code.

    Packages in site-packages count as the user's, other than those named here: a test may well be
    about one of them.
    """
    if filename.startswith("<") or is_machinery(filename) or is_torch(filename):
        return True
    if _is_in_package(filename, "expecttest") or is_hypothesis(filename) or is_pytest(filename):
        return True
    in_library = filename.startswith(_STDLIB)
    return in_library and not any(part in filename for part in ("site-packages", "dist-packages"))


def _is_in_package(filename: str, package: str) -> bool:
    module = sys.modules.get(package)
    if module is None or not getattr(module, "__file__", None):
        return False
    return filename.startswith(os.path.join(os.path.dirname(str(module.__file__)), ""))
