"""From names on the command line to test files, and how each file is imported."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.model.errors import UsageError

DEFAULT_FOLDER = "suites"
_FILES = "test_*.py"


@dataclass(frozen=True)
class TestFile:
    """A test file and the name it is imported by.

    Attributes:
        module: the module's dotted name.
        path: the file, absolute.
        root: the folder that must be on `sys.path` for that name.
    """

    __test__ = False  # not a test, whatever pytest thinks of the name

    module: str
    path: Path
    root: Path

    def is_begin_of(self, name: str) -> bool:
        """Whether a dotted name is of the module or of something in it, going by how it begins."""
        return f"{name}.".startswith(f"{self.module}.")

    def put_on_path(self) -> None:
        if str(self.root) not in sys.path:
            sys.path.insert(0, str(self.root))


def is_path(name: str) -> bool:
    """Whether a name on the command line is a file or folder rather than a dotted name."""
    return os.sep in name or name.endswith(".py") or Path(name).is_dir()


def files_for(names: Sequence[str]) -> list[TestFile]:
    """The files to look into: those named, and the default folder's where names are dotted.

    Raises:
        UsageError: if a name is a path that does not exist or is no Python file.
    """
    found = [_test_file(path) for name in names if is_path(name) for path in _files_at(name)]
    dotted = [name for name in names if not is_path(name)]
    if dotted or not names:
        by_default = [_test_file(path) for path in _files_in(_default_folder())]
        meant = [_files_meant(name, by_default) for name in dotted]
        found += [file for files in meant or [by_default] for file in files]
    return list(dict.fromkeys(found))


def _files_meant(name: str, by_default: Sequence[TestFile]) -> list[TestFile]:
    """The files that a dotted name can be about, so that workers come to be with them imported."""
    named = [file for file in by_default if file.is_begin_of(name)] or _file_on_path(name)
    # A name that begins with a module's needs no other. A single word may be the end of any name.
    return named if named and "." in name else [*by_default, *named]


def _file_on_path(name: str) -> list[TestFile]:
    """The file of the module that a dotted name begins with; none if that is not easily found."""
    parts = name.split(".")
    for length in range(len(parts) if all(parts) else 0, 0, -1):
        # A single word is not looked for among all that is installed.
        for entry in (os.getcwd(), *(sys.path if length > 1 else ())):
            path = Path(entry, *parts[:length]).with_suffix(".py")
            if path.is_file():
                module, file = ".".join(parts[:length]), _test_file(path)
                is_its_name = f".{file.module}".endswith(f".{module}")
                # Otherwise the folder is a package only by being named as one.
                return [file if is_its_name else TestFile(module, path, Path(entry).resolve())]
    return []


def lies_in(file: TestFile, name: str) -> bool:
    """Whether the path `name` is the file or a folder above it."""
    path = Path(name).resolve()
    return path == file.path or path in file.path.parents


def _files_at(name: str) -> list[Path]:
    path = Path(name)
    if path.is_dir():
        return list(_files_in(path))
    if not path.exists():
        raise UsageError(f"there is no file or folder {name}{_nearest(path)}")
    if path.suffix != ".py":
        raise UsageError(f"{name} is not a Python file")
    return [path]


def _files_in(folder: Path) -> Iterator[Path]:
    """The test files of a folder and of the packages in it, by name, as unittest finds them."""
    yield from sorted(folder.glob(_FILES))
    for child in sorted(folder.iterdir()):
        if (child / "__init__.py").exists():
            yield from _files_in(child)


def _default_folder() -> Path:
    suites = Path(DEFAULT_FOLDER)
    return suites if suites.is_dir() else Path()


def _test_file(path: Path) -> TestFile:
    """A file's module name is its path below the innermost folder that is not a package."""
    path = path.resolve()
    root = path.parent
    while (root / "__init__.py").exists():
        root = root.parent
    return TestFile(".".join(path.relative_to(root).with_suffix("").parts), path, root)


def _nearest(path: Path) -> str:
    if not path.parent.is_dir():
        return ""
    near = difflib.get_close_matches(path.name, os.listdir(path.parent), n=3)
    return (
        f"; did you mean {', '.join(str(path.parent / other) for other in near)}?" if near else ""
    )
