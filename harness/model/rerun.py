"""Build the shell command that reruns a test in the way in which this process ran it.

The command depends on the way: the runner, unittest, pytest, a script, or a drop-in run.
"""

from __future__ import annotations

import os
import shlex
import sys
import unittest
from pathlib import Path
from typing import Any

from harness.model import settings
from harness.model.invocation import folder, runner, short_path
from harness.model.marks import RANKS

# How the line of a report with this command begins.
MARK = "rerun: "


def command_for(case: unittest.TestCase) -> str:
    """Return a shell command that reruns this test; empty if there is none."""
    cls = type(case)
    if not getattr(getattr(cls, RANKS, None), "has_command", True):
        return ""
    return command(cls.__module__, cls.__qualname__, method=case._testMethodName)


def command_for_name(name: str) -> str:
    """Return the command for a test, a class or a module, by its full name."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        module = ".".join(parts[:length])
        if module in sys.modules:
            return command(module, ".".join(parts[length:]))
    return ""


def command(module: str, name: str, file: str | None = None, method: str = "") -> str:
    """Return the command for a test, a class or a module.

    Args:
        module: the module's name.
        name: the qualified name of a class or a test in the module; empty for the whole module.
        file: the module's file, if this process has not imported the module.
        method: a method of the class `name`. It may contain any characters, dots included.
    """
    if module.startswith("unittest."):  # unittest's _FailedTest, for a name that it cannot load
        return ""
    if file is None:
        file = file_of(module)
    file = os.path.abspath(file)
    if "PYTEST_CURRENT_TEST" in os.environ:
        parts = [short_path(file), *name.split("."), *([method] if method else [])]
        return _as_now(["python", "-m", "pytest", "::".join(parts)])
    name = f"{name}.{method}" if method else name
    names = [name] if name else []
    if module == "__main__":
        return _as_now(["python", short_path(file), *names])
    if settings.DROPIN.value():
        tests = short_path(os.path.dirname(file))
        return _as_now([*runner(), "--torch-checkout", tests, short_path(file), *names])
    # A module name works only in the folder that the module is imported from, so `cd` there.
    root = _import_root(module, file)
    words = [short_path(word, root) if word.endswith(".py") else word for word in runner()]
    line = _as_now([*words, ".".join([module, *names])])
    return line if root == folder() else f"cd {shlex.quote(short_path(root))} && {line}"


def file_of(module: str) -> str:
    """Return the file of a module that this process has imported; empty if it has none."""
    return getattr(sys.modules.get(module), "__file__", None) or ""


def _as_now(command: list[str]) -> str:
    """Return the command, preceded by the settings that may affect a test's outcome."""
    variables = [f"{s.env}={s.value()}" for s in _SETTINGS if s.is_set()]
    if settings.DROPIN.value():
        variables += [f"{name}={os.environ[name]}" for name in _VARIABLES if name in os.environ]
    return " ".join([*variables, shlex.join(command)])


# The settings that can decide whether a test passes. Others (time limits, reports) only make the
# command longer; a user who has set them in the environment still has them.
_SETTINGS: tuple[settings.Setting[Any], ...] = (
    settings.SEED,
    settings.ISOLATION,
    settings.AUDIT,
    settings.START_METHOD,
)
# What tests for PyTorch's harness read.
_VARIABLES = ("BACKEND", "WORLD_SIZE")


def _import_root(module: str, file: str) -> str:
    """Return the folder in which `import module` finds the file."""
    root = Path(file).parent
    for _ in range(module.count(".") + (Path(file).name == "__init__.py")):
        root = root.parent
    return str(root)
