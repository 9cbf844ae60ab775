"""From names on the command line to test files, and how each file is imported."""

from __future__ import annotations

import difflib
import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.model.errors import UsageError
from harness.runner.reports.text import shortened

DEFAULT_FOLDER = "suites"
_FILES = "test_*.py"


@dataclass(frozen=True)
class TestFile:
    """A test file and the name it is imported by.

    Attributes:
        module: the module's dotted name.
        path: the file, absolute.
        root: the folder that must be on `sys.path` for that name.
        siblings: the folder from which it imports the modules beside it, if that is another one.
        has_siblings_first: whether these come before all other modules, as for a script.
    """

    __test__ = False  # not a test, whatever pytest thinks of the name

    module: str
    path: Path
    root: Path
    siblings: Path | None = None
    has_siblings_first: bool = True

    def is_begin_of(self, name: str) -> bool:
        """Whether a dotted name is of the module or of something in it, going by how it begins."""
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


def is_path(name: str) -> bool:
    """Whether a name on the command line is a file or folder rather than a dotted name."""
    return os.sep in name or name.endswith(".py") or os.path.isdir(name)


def absolute(names: Sequence[str]) -> tuple[str, ...]:
    """The names, with paths made absolute: a test module may change the current folder."""
    return tuple(os.path.abspath(name) if is_path(name) else name for name in names)


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
    return told_apart(list(dict.fromkeys(found)))


def told_apart(files: Sequence[TestFile]) -> list[TestFile]:
    """The files, with a name of its own for each.

    Files outside of packages that have the same name are imported by the names of their folders as
    well: `a/test_x.py` and `b/test_x.py` as `a.test_x` and `b.test_x`. That does for ranks, too,
    which import modules by name. Files in packages keep their names, which their own imports use.

    Raises:
        UsageError: if two files cannot be told apart.
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
    """The files, named by as many of their folders as it takes.

    A folder can only be imported as one if nothing else has the name of the first.
    """
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
    """Whether a module or a package with `__init__.py` has the name, rather than a mere folder."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return True
    return spec is not None and spec.origin is not None


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
            if os.path.isfile(path):  # which is false, too, for a name that no file can have
                module, file = ".".join(parts[:length]), _test_file(path)
                is_its_name = f".{file.module}".endswith(f".{module}")
                # Otherwise the folder is a package only by being named as one.
                if is_its_name:
                    return [file]
                root = Path(entry).resolve()
                return [TestFile(module, path.resolve(), root, path.resolve().parent, False)]
    return []


def lies_in(file: TestFile, name: str) -> bool:
    """Whether the path `name` is the file or a folder above it."""
    path = Path(name).resolve()
    return path == file.path or path in file.path.parents


def _files_at(name: str) -> list[Path]:
    path = Path(name)
    if os.path.isdir(name):
        return list(_files_in(path))
    if not os.path.exists(name):
        raise UsageError(f"there is no file or folder {shortened(name, 200)}{_nearest(path)}")
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
    if not os.access(path.parent, os.R_OK | os.X_OK) or not os.path.isdir(path.parent):
        return ""
    near = difflib.get_close_matches(path.name, os.listdir(path.parent), n=3)
    return (
        f"; did you mean {', '.join(str(path.parent / other) for other in near)}?" if near else ""
    )
