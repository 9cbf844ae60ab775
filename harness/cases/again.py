"""The command that runs one test again, in the way that this process was told to run it."""

from __future__ import annotations

import os
import shlex
import sys
import unittest
from pathlib import Path
from typing import Any

from harness.model import settings
from harness.model.invocation import runner, short_path


def command_for(case: unittest.TestCase) -> str:
    """A line for the shell that runs this one test again; empty if there is none."""
    cls = type(case)
    if not getattr(cls, "has_command", True):
        return ""
    module = sys.modules.get(cls.__module__)
    file = os.path.abspath(getattr(module, "__file__", None) or "")
    name = f"{cls.__qualname__}.{case._testMethodName}"
    if "PYTEST_CURRENT_TEST" in os.environ:
        place = f"{short_path(file)}::{name.replace('.', '::')}"
        return _as_now(["python", "-m", "pytest", place])
    if cls.__module__ == "__main__":
        return _as_now(["python", short_path(file), name])
    if settings.DROPIN.value():
        folder = short_path(os.path.dirname(file))
        return _as_now([*runner(), "--torch-checkout", folder, short_path(file), name])
    command = _as_now([*runner(), f"{cls.__module__}.{name}"])
    root = _import_root(cls.__module__, file)
    return command if root == os.getcwd() else f"cd {shlex.quote(root)} && {command}"


def _as_now(command: list[str]) -> str:
    """The command, with the settings in front on which a test's outcome may hang."""
    given = [f"{s.env}={s.value()}" for s in _SETTINGS if s.is_set()]
    if settings.DROPIN.value():
        given += [f"{name}={os.environ[name]}" for name in _VARIABLES if name in os.environ]
    return " ".join([*given, shlex.join(command)])


_SETTINGS: tuple[settings.Setting[Any], ...] = (
    settings.SEED,
    settings.ISOLATION,
    settings.START_METHOD,
)
# What tests for PyTorch's harness read.
_VARIABLES = ("BACKEND", "WORLD_SIZE")


def _import_root(module: str, file: str) -> str:
    """The folder from which the module is imported by its name."""
    root = Path(file).parent
    for _ in range(module.count(".")):
        root = root.parent
    return str(root)
