"""Import in a new process the modules of the parent, even if their names alone do not suffice.

pytest's `--import-mode=importlib` loads test files without their folders on `sys.path`, under names
that it derives from their paths. A new process loads such a module from the same file, under the
same name.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterable, Sequence
from types import ModuleType

#: A module's name, its file (empty if it has none), and, for a package, where its modules are.
ModuleSource = tuple[str, str, tuple[str, ...] | None]


def sources_of(name: str) -> tuple[ModuleSource, ...]:
    """Return the sources of a module of this process and of its packages, outermost first.

    Returns nothing for `__main__`: a rank that executed the script would run its tests.
    """
    if name == "__main__":
        return ()
    parts = name.split(".")
    names = (".".join(parts[:length]) for length in range(1, len(parts) + 1))
    return tuple(_source(name) for name in names if name in sys.modules)


def _source(name: str) -> ModuleSource:
    module = sys.modules[name]
    file, folders = getattr(module, "__file__", None), getattr(module, "__path__", None)
    return name, os.path.abspath(file) if file else "", None if folders is None else tuple(folders)


def import_from(name: str, sources: Iterable[ModuleSource]) -> ModuleType:
    """Import a module by its name; if that finds another file than the parent's, from that file.

    Args:
        name: the module's name.
        sources: the sources of the module and its packages; others are ignored.

    Raises:
        ImportError: if there is no such module; also whatever the module itself raises.
    """
    for source in sources:
        if f"{name}.".startswith(f"{source[0]}.") and not _is_found_by_name(source):
            _load(source)
    return importlib.import_module(name)


def _is_found_by_name(source: ModuleSource) -> bool:
    """Whether importing the module by its name gives the parent's file."""
    name, file, _ = source
    if name in sys.modules:
        return not file or _is_same(getattr(sys.modules[name], "__file__", None), file)
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return False
    return spec is not None and (not file or _is_same(spec.origin, file))


def _is_same(file: str | None, other: str) -> bool:
    try:
        return file is not None and os.path.samefile(file, other)
    except OSError:  # it is in an archive, or removed: there is no other file to load
        return True


def _load(source: ModuleSource) -> None:
    """Load a module from its file; make an empty package if it has no file, as pytest does."""
    name, file, folders = source
    if not file:
        module = ModuleType(name)
        module.__path__ = list(folders or ())
        sys.modules[name] = module
    elif file.endswith(".py"):
        _load_file(name, file, folders)
    # The import system sets a submodule as an attribute of its package; so must this.
    parent, _, last = name.rpartition(".")
    if parent in sys.modules and name in sys.modules:
        setattr(sys.modules[parent], last, sys.modules[name])


def _load_file(name: str, file: str, folders: Sequence[str] | None) -> None:
    where = None if folders is None else list(folders)
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=where)
    assert spec is not None  # it is a .py file
    assert spec.loader is not None
    # In sys.modules before it runs, as the import system does: dataclasses and pickle look up the
    # module there. If it fails, it must go, or a second import would get half a module.
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
