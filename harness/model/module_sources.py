"""Import in a new process what the parent has imported, also where the name alone will not do.

pytest's `--import-mode=importlib` loads test files without their folders on `sys.path`, under names
that it makes up from their paths. Such a module is loaded from the same file under the same name.
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
    """Where this process has a module from, and the packages that it is in, outermost first.

    Nothing for the script: run once more as `__main__`, it would run its tests.
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
    """Import a module by its name, or else from the file that the parent has it from.

    Args:
        name: of the module.
        sources: of this module and its packages; others do not matter.

    Raises:
        ImportError, or whatever the module raises.
    """
    for source in sources:
        if f"{name}.".startswith(f"{source[0]}.") and not _is_had(source):
            _load(source)
    return importlib.import_module(name)


def _is_had(source: ModuleSource) -> bool:
    """Whether the import system has the module from where the parent has it, or will find it."""
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
    except OSError:  # in an archive, or gone: there is nothing to load instead
        return True


def _load(source: ModuleSource) -> None:
    """Load a module from its file; a package without one is made empty, as pytest makes it."""
    name, file, folders = source
    if not file:
        module = ModuleType(name)
        module.__path__ = list(folders or ())
        sys.modules[name] = module
    elif file.endswith(".py"):
        _load_file(name, file, folders)
    parent, _, last = name.rpartition(".")
    if parent in sys.modules and name in sys.modules:
        setattr(sys.modules[parent], last, sys.modules[name])


def _load_file(name: str, file: str, folders: Sequence[str] | None) -> None:
    where = None if folders is None else list(folders)
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=where)
    assert spec is not None  # it is a .py file
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
