"""Turn names on the command line into test files, and decide how each file is imported.

A name is a path (`suites`, `suites/test_x.py`), pytest's form for a test inside a file
(`suites/test_x.py::TestX::test_a`), or a dotted name.

A file's module name is its path below the innermost folder that is not a package, which goes on
`sys.path`. Two files with the same module name get their folders as a prefix (`with_unique_names`).
"""

from __future__ import annotations

import difflib
import fnmatch
import importlib.util
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NoReturn

from harness.model.errors import UsageError
from harness.runner.reports.text import shortened

DEFAULT_FOLDER = "suites"
_FILES = "test_*.py"
_INSIDE = "::"  # separates a file from a name inside it
# Common mistakes instead of `::`: `test_x.py:TestX`, "test_x.py TestX", test_x.py.TestX.
_AFTER_FILE = re.compile(r"\.py[:. ]")
_MAX_LISTED = 3
# How many folders to search for test files that do not run.
_MAX_SEARCHED = 2000
_SKIPPED_FOLDERS = frozenset({"__pycache__", "build", "dist", "node_modules", "site-packages"})


@dataclass(frozen=True)
class TestFile:
    """A test file and its module name.

    Attributes:
        module: the module's dotted name.
        path: the absolute path of the file.
        root: the folder that must be on `sys.path` to import the module by this name.
        siblings: the folder from which it imports the modules beside it, if it is not `root`.
        has_siblings_first: whether `siblings` goes first on `sys.path`, as for a script.
    """

    __test__ = False  # pytest would collect it, because its name starts with "Test"

    module: str
    path: Path
    root: Path
    siblings: Path | None = None
    has_siblings_first: bool = True

    def is_begin_of(self, name: str) -> bool:
        """Whether a dotted name begins with the module's name."""
        return f"{name}.".startswith(f"{self.module}.")

    def put_on_path(self) -> None:
        if self.siblings is None:
            _put_on_path(self.root, first=True)
        else:
            _put_on_path(self.siblings, first=self.has_siblings_first)
            _put_on_path(self.root, first=False)


def _put_on_path(folder: Path, first: bool) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0 if first else len(sys.path), str(folder))


def parts_of(name: str) -> tuple[str, str]:
    """Split a name into its path and the dotted name inside that file; either may be empty.

    Without a path, `::` also counts as a dot.
    """
    path, _, inside = name.partition(_INSIDE)
    if os.sep in path or path.endswith(".py") or os.path.isdir(path):
        return path, inside.replace(_INSIDE, ".")
    return "", name.replace(_INSIDE, ".")


def is_path(name: str) -> bool:
    """Whether a name on the command line begins with a file or folder."""
    return bool(parts_of(name)[0])


def absolute(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names with absolute paths: a test module may change the current folder."""
    return tuple(map(_absolute, names))


def _absolute(name: str) -> str:
    path, inside = parts_of(name)
    if not path:
        return inside
    return os.path.abspath(path) + (f"{_INSIDE}{inside}" if inside else "")


def files_for(names: Sequence[str]) -> list[TestFile]:
    """Return the files to import: the named ones, and the default folder's for dotted names.

    Raises:
        UsageError: if a path does not exist, is not a Python file, or is a folder without tests.
    """
    found = [_test_file(path) for name in names if is_path(name) for path in _files_at(name)]
    # A dotted name may be anywhere, so the default folder is searched for it.
    dotted = [inside for path, inside in map(parts_of, names) if not path]
    for name in dotted:
        if _AFTER_FILE.search(name) and (hint := _spelling_hint(name)):
            raise UsageError(f"no test is called {shortened(name, 200)}{hint}")
    if dotted or not names:
        by_default = [_test_file(path) for path in _files_in(_default_folder())]
        meant = [_files_matching(name, by_default) for name in dotted]
        found += [file for files in meant or [by_default] for file in files]
    return with_unique_names(list(dict.fromkeys(found)))


def with_unique_names(files: Sequence[TestFile]) -> list[TestFile]:
    """Return the files with unique module names.

    Files outside of packages with the same name get their folders' names as a prefix:
    `a/test_x.py` and `b/test_x.py` become `a.test_x` and `b.test_x`. Ranks import them by these
    names too. Files in packages keep their names, because their own imports use them.

    Raises:
        UsageError: if two files would still have the same name.
    """
    by_module: dict[str, list[TestFile]] = {}
    for file in files:
        by_module.setdefault(file.module, []).append(file)
    names = {
        file: longer
        for same in by_module.values()
        if len(same) > 1
        for file, longer in zip(same, _with_folders(same), strict=True)
    }
    return [names.get(file, file) for file in files]


def _with_folders(files: Sequence[TestFile]) -> Sequence[TestFile]:
    """Return the files with as many of their folders in the name as needed.

    A folder without `__init__.py` is a namespace package. That only works if no other module or
    package has the name of the first folder.
    """
    # Files in packages have imports of their own that use their names, so they keep them.
    in_packages = any(file.root != file.path.parent for file in files)
    depths = min(len(file.path.parents) for file in files)
    for depth in range(1, 0 if in_packages else depths):
        names = [file.path.with_suffix("").parts[-1 - depth :] for file in files]
        if any("." in part for name in names for part in name):
            break
        if len(set(names)) == len(names) and not any(_is_taken(name[0]) for name in names):
            return [
                TestFile(".".join(name), file.path, file.path.parents[depth], file.root)
                for name, file in zip(names, files, strict=True)
            ]
    raise UsageError(
        f"these files are all module {files[0].module}, and one process can import only one of "
        f"them: {', '.join(str(file.path) for file in files)}. Run them in separate commands, or "
        "rename the files or their packages"
    )


def _is_taken(name: str) -> bool:
    """Whether a module, or a package with `__init__.py`, has this name; a plain folder may."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return True
    return spec is not None and spec.origin is not None


def _files_matching(name: str, by_default: Sequence[TestFile]) -> list[TestFile]:
    """Return the files that a dotted name may belong to; workers start with these imported."""
    named = [file for file in by_default if file.is_begin_of(name)] or _file_on_path(name)
    # If the name begins with a module's name, only that file matters. A single word may be the last
    # part of any test's name.
    return named if named and "." in name else [*by_default, *named]


def _file_on_path(name: str) -> list[TestFile]:
    """Return the file of the module that a dotted name begins with; empty if not easily found."""
    parts = name.split(".")
    for length in range(len(parts) if all(parts) else 0, 0, -1):
        # Search for a single word only in the current folder: many installed modules have short
        # names.
        for entry in (os.getcwd(), *(sys.path if length > 1 else ())):
            path = Path(entry, *parts[:length]).with_suffix(".py")
            if os.path.isfile(path):  # also False, not an error, for names with a null character
                module, file = ".".join(parts[:length]), _test_file(path)
                is_its_name = f".{file.module}".endswith(f".{module}")
                # Otherwise a folder without `__init__.py` is part of the dotted name.
                if is_its_name:
                    return [file]
                root = Path(entry).resolve()
                return [TestFile(module, path.resolve(), root, path.resolve().parent, False)]
    return []


def lies_in(file: TestFile, name: str) -> bool:
    """Whether the path that `name` begins with is the file or a folder above it."""
    path = Path(parts_of(name)[0]).resolve()
    return path == file.path or path in file.path.parents


def _files_at(name: str) -> list[Path]:
    where, _ = parts_of(name)
    path = Path(where)
    # pytest's `FILE::` without a name would run the whole file.
    if name.endswith((_INSIDE, ":")):
        raise UsageError(f"{shortened(name, 200)} names nothing after the colons")
    if os.path.isdir(where):
        return list(_files_in(path)) or _no_files_in(where)
    if not os.path.exists(where):
        hint = _spelling_hint(name) or _nearest(path)
        raise UsageError(f"there is no file or folder {shortened(name, 200)}{hint}")
    if path.suffix != ".py":
        raise UsageError(f"{name} is not a Python file")
    return [path]


def _no_files_in(folder: str) -> NoReturn:
    unsearched = _unsearched_folders(Path(folder))
    if unsearched:
        raise UsageError(f"{folder} has no test files ({_FILES}) itself: {_remark(unsearched)}")
    raise UsageError(f"there are no test files ({_FILES}) in {folder}")


def remark_on_folders(names: Sequence[str]) -> str:
    """Return a remark about test files below the folders that do not run; empty if there are none.

    As in unittest, the tests of a folder are its own test files and those of the packages in it.

    Args:
        names: as on the command line; no names mean the default folder.
    """
    parts = map(parts_of, names)
    folders = {Path(path) for path, inside in parts if not inside and os.path.isdir(path)}
    is_default = not names
    for folder in folders or ({_default_folder()} if is_default else ()):
        if found := {
            where: n for where, n in _unsearched_folders(folder).items() if where not in folders
        }:
            return _remark(found)
        if is_default and next(_files_in(folder), None) is None:
            return f"there are no test files ({_FILES}) in {os.path.abspath(folder)}"
    return ""


def _remark(unsearched: Mapping[Path, int]) -> str:
    from harness.diagnosis.words import count  # not at the top: it imports multiprocessing

    listed = [f"{folder} ({number})" for folder, number in unsearched.items()]
    more = f" and {len(listed) - _MAX_LISTED} more folders" if len(listed) > _MAX_LISTED else ""
    return (
        f"not searched, because there is no __init__.py: {', '.join(listed[:_MAX_LISTED])}{more}, "
        f"with {count(sum(unsearched.values()), 'test file')}: name these folders to run their "
        "tests"
    )


def _unsearched_folders(folder: Path) -> dict[Path, int]:
    """Return the folders below this one that are not packages, with their number of test files.

    The search stops after a limit: the folder may be a large tree, such as a home folder.
    """
    reached = {str(folder)}
    found: dict[Path, int] = {}
    for root, folders, files in islice(os.walk(folder), _MAX_SEARCHED):
        folders[:] = sorted(name for name in folders if not _is_never_searched(root, name))
        if root not in reached:
            if number := len(fnmatch.filter(files, _FILES)):
                found[Path(root)] = number
            continue
        paths = (os.path.join(root, name) for name in folders)
        reached.update(path for path in paths if os.path.exists(f"{path}/__init__.py"))
    return found


def _is_never_searched(root: str, name: str) -> bool:
    """Whether to skip a folder, as pytest does: hidden folders, environments, build output."""
    is_environment = os.path.exists(os.path.join(root, name, "pyvenv.cfg"))
    return (
        name.startswith(".") or name.endswith(".egg") or name in _SKIPPED_FOLDERS or is_environment
    )


def _spelling_hint(name: str) -> str:
    """Return a hint with the right spelling, if the beginning of the name is a file."""
    for end in range(len(name) - 1, 0, -1):
        rest = name[end:].lstrip(":./ ").replace(os.sep, ".").replace("::", ".").replace(":", ".")
        for path in (name[:end], f"{name[:end]}.py"):
            if name[end] in ":./ " and rest and path.endswith(".py") and os.path.isfile(path):
                return f"; did you mean {path}{_INSIDE}{rest}?"
    return ""


def _files_in(folder: Path) -> Iterator[Path]:
    """Yield the test files of a folder and of the packages in it, in unittest's order."""
    yield from sorted(folder.glob(_FILES))
    for child in sorted(folder.iterdir()):
        if (child / "__init__.py").exists():
            yield from _files_in(child)


def _default_folder() -> Path:
    suites = Path(DEFAULT_FOLDER)
    return suites if suites.is_dir() else Path()


def _test_file(path: Path) -> TestFile:
    """Return the file, named by its path below the innermost folder that is not a package."""
    path = path.resolve()
    root = path.parent
    while (root / "__init__.py").exists():
        root = root.parent
    return TestFile(".".join(path.relative_to(root).with_suffix("").parts), path, root)


def _nearest(path: Path) -> str:
    if not os.access(path.parent, os.R_OK | os.X_OK) or not os.path.isdir(path.parent):
        return ""
    near = difflib.get_close_matches(path.name, os.listdir(path.parent), n=3)
    return (
        f"; did you mean {', '.join(str(path.parent / other) for other in near)}?" if near else ""
    )
