"""Test files of a PyTorch checkout, or of any folder of tests for PyTorch's own harness."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.model.errors import UsageError
from harness.runner.reports.text import shortened
from harness.runner.selection.files import TestFile, parts_of, with_unique_names

# Folders that the files expect in TEMP_DIR.
_FOLDERS = ("barrier", "init_dir", "test_dir")


def use_defaults(temp: Path) -> None:
    """Set the environment variables that PyTorch's run_test.py sets, unless they are set already.

    Args:
        temp: a folder for temporary files.
    """
    os.environ.update(environ_with_defaults(temp))


def environ_with_defaults(temp: Path) -> dict[str, str]:
    """Return this process's environment with what `use_defaults` would set."""
    for name in _FOLDERS:
        (temp / name).mkdir(parents=True, exist_ok=True)
    defaults = {
        "BACKEND": "gloo",
        "WORLD_SIZE": "2",
        "TEMP_DIR": str(temp),
        "INIT_METHOD": f"file://{temp / 'init_dir' / 'shared_init_file'}",
    }
    return {**defaults, **os.environ}


def files_of_checkout(checkout: str, names: Sequence[str]) -> list[TestFile]:
    """Return the test files that the names select; without names, all of the distributed tests.

    Each is imported by its own name from its own folder, as if it had been started as a script.

    Args:
        checkout: the folder; its tests are in `test/`, if there is one.
        names: as on the command line. Paths are relative to the folder of tests, to the checkout,
            or to the current folder.

    Raises:
        UsageError: if the folder or a file does not exist, or has no tests.
    """
    folder = folder_of_tests(checkout)
    # PyTorch's tests import each other by their paths below test/.
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    named = [path for path, _ in map(parts_of, names) if path]
    whole = [path for path, inside in map(parts_of, names) if path and not inside]
    if whole and len(whole) < len(named):
        raise UsageError(
            f"with --torch-checkout, FILE::Class picks tests from all files that are named: give "
            f"{whole[0]} a command of its own"
        )
    paths = [_find(name, folder, checkout) for name in named] if named else _all_in(folder)
    files = [TestFile(path.stem, path, path.parent) for path in dict.fromkeys(paths)]
    return with_unique_names(files)


def dotted(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of tests inside the files, without the files' own names."""
    return tuple(inside for _, inside in map(parts_of, names) if inside)


def folder_of_tests(checkout: str) -> Path:
    """Return the folder with the tests of a checkout, from which PyTorch's developers run them.

    Raises:
        UsageError: if the checkout does not exist.
    """
    root = Path(os.path.realpath(checkout))
    if not os.path.isdir(root):
        raise UsageError(f"--torch-checkout: there is no folder {shortened(checkout, 200)}")
    return root / "test" if (root / "test").is_dir() else root


def _find(name: str, folder: Path, checkout: str) -> Path:
    for base in (folder, Path(checkout), Path()):
        path = Path(os.path.realpath(base / name))
        if os.path.isfile(path):
            return path
    raise UsageError(f"there is no file {shortened(name, 200)} in {folder}")


def _all_in(folder: Path) -> list[Path]:
    distributed = folder / "distributed"
    found = sorted((distributed if distributed.is_dir() else folder).rglob("test_*.py"))
    if not found:
        raise UsageError(f"--torch-checkout: there are no test files in {folder}")
    return found
