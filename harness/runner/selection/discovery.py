"""Import the test files, and select the tests by the user's names.

    load        import each file; a module ends up with tests, or as broken or skipped
    select      resolve each name: a path, `path::Class::test`, or a dotted name
    discover    both of them, then `-k`; returns the plan as JSON data

The plan goes from the worker that imported the files to the runner, which imports none. Every other
worker finds a test again by its `Place`: module, id, and the number among equal ids. That requires
that a module always yields the same tests; `tests_in_module_of` reports an error if it does not.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
import traceback
import unittest
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from unittest.util import strclass

from harness.model import settings
from harness.model.errors import TorchMissingError, UsageError
from harness.model.importing import imports_without_gc
from harness.runner.selection.expressions import any_matcher
from harness.runner.selection.files import TestFile, is_path, lies_in, parts_of
from harness.runner.selection.near_names import nearest
from harness.runner.selection.planned_test import Found, Place, describe
from harness.runner.selection.pytest_style import on_unseen, parametrized_by_pytest, unseen_tests
from harness.runner.selection.remarks import remarks_on
from harness.runner.workers.worker_spec import Wanted

#: Tests, each with the place by which any process can find it.
Tests = list[tuple[Place, unittest.TestCase]]


@dataclass
class Loaded:
    """The imported test modules.

    Attributes:
        tests: module to its tests, in the order of unittest's loader.
        broken: module to error text, for modules that could not be imported. A file whose module
            name belongs to another file is listed by its path.
        skipped: module to reason, for modules that raised SkipTest.
        unseen: module to the names of its tests that only pytest finds.
        parametrized: module to the names of its methods with pytest.mark.parametrize.
    """

    tests: dict[str, Tests] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    unseen: dict[str, list[str]] = field(default_factory=dict)
    parametrized: dict[str, list[str]] = field(default_factory=dict)

    def all_tests(self) -> Tests:
        return [test for tests in self.tests.values() for test in tests]

    def add(self, module: str, path: Path | None = None) -> None:
        """Import a module and add its tests, or the reason why it has none.

        Args:
            module: its name.
            path: its file; None to accept any file.
        """
        try:
            imported = importlib.import_module(module)
            if path is not None and not _is_of(imported, path):
                self.broken[str(path)] = _other_file(imported, path)
            else:
                self.take(imported, module)
        except unittest.SkipTest as skip:
            self.skipped[module] = str(skip)
        except TorchMissingError as error:
            self.broken[module] = str(error)
        except (Exception, SystemExit):  # a script without a `__main__` guard may call sys.exit()
            self.broken[module] = _import_traceback()

    def take(self, module: ModuleType, name: str) -> None:
        """Add the tests of an imported module."""
        self.tests[name] = tests_of(module, name)
        self.unseen[name] = unseen_tests(module)
        self.parametrized[name] = parametrized_by_pytest(module)

    def knows(self, module: str) -> bool:
        return module in self.tests or module in self.broken or module in self.skipped


def discover(wanted: Wanted, keep: Callable[[Mapping[Place, unittest.TestCase]], None]) -> Found:
    """Import the files and select the tests.

    Args:
        wanted: which tests.
        keep: called with the tests, by their places.

    Raises:
        UsageError: if a name matches no test.
    """
    loaded = _load_wanted(wanted)
    # After the import of the files: their folders come first on the path, as for scripts.
    _put_on_path(wanted.folder)
    found = select(loaded, wanted.names, wanted.files)
    matches = any_matcher(wanted.patterns)
    tests = [(place, test) for place, test in found if matches(place[1])]
    remarks = remarks_on(loaded, wanted, [test_id for (_, test_id, _), _ in found])
    keep(dict(tests))
    copies, class_copies = _copies(loaded.all_tests())
    plans = [
        describe(test, place, copies[place], class_copies[type(test)]) for place, test in tests
    ]
    return Found(
        tests=tuple(plans),
        broken=loaded.broken,
        skipped=loaded.skipped,
        devices=tuple(_devices()) if any(plan.devices for plan in plans) else (),
        count=len(found),
        remarks=tuple(remarks),
    )


def _copies(tests: Tests) -> tuple[dict[Place, int], dict[type, int]]:
    """Number the tests that have the same id, and the classes that have the same name."""
    by_id, by_name = Counter[str](), Counter[str]()
    copies: dict[Place, int] = {}
    # By type, not by name: a function may create several classes with one name.
    class_copies: dict[type, int] = {}
    for place, test in tests:
        copies[place] = by_id[place[1]]
        by_id[place[1]] += 1
        if type(test) not in class_copies:
            name = strclass(type(test))
            class_copies[type(test)] = by_name[name]
            by_name[name] += 1
    return copies, class_copies


def _devices() -> list[str]:
    """Return the devices (GPUs) that tests may use, by their names in `CUDA_VISIBLE_DEVICES`."""
    torch = sys.modules.get("torch")
    # If no test module has imported torch, no test needs devices.
    count = torch.accelerator.device_count() if torch is not None else 0
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    named = [name.strip() for name in visible.split(",") if name.strip()]
    return (named or [str(number) for number in range(count)])[:count]


def tests_in_module_of(place: Place, wanted: Wanted) -> dict[Place, unittest.TestCase]:
    """Return new instances of all tests of the module that a test was loaded from, by place.

    Raises:
        UsageError: if the module no longer has this test.
    """
    module, test_id, _ = place
    _put_on_path(wanted.folder)
    try:
        tests = dict(tests_of(importlib.import_module(module), module))
    except (Exception, SystemExit):
        tests = {}
        why = f": {_import_traceback()}"
    else:
        why = ""
    if place not in tests:
        raise UsageError(
            f"another process cannot find {test_id}, although module {module} had it when the run "
            f"began: a module must define the same tests each time it is imported{why}"
        )
    return tests


#: The name of the module that was started as a script.
MAIN = "__main__"


def _load_wanted(wanted: Wanted) -> Loaded:
    if not wanted.is_script:
        return load(wanted.files)
    loaded = Loaded()
    loaded.take(sys.modules[MAIN], MAIN)
    return loaded


def load(files: Iterable[TestFile]) -> Loaded:
    """Import all files. If one cannot be imported, the others still are."""
    loaded = Loaded()
    with imports_without_gc():
        for file in files:
            file.put_on_path()
            loaded.add(file.module, file.path)
    return loaded


def tests_of(module: ModuleType, name: str) -> Tests:
    """Return all tests of a module, in the order of unittest's loader."""
    with _named_as_the_script(module):
        found = list(_flatten(unittest.defaultTestLoader.loadTestsFromModule(module)))
    # Classes made by a function may yield equal ids; the number tells them apart.
    numbers = Counter[str]()
    tests: Tests = []
    for test in found:
        test_id = test.id()
        tests.append(((name, test_id, numbers[test_id]), test))
        numbers[test_id] += 1
    return tests


@contextlib.contextmanager
def _named_as_the_script(module: ModuleType) -> Iterator[None]:
    """Set `sys.argv[0]` to the module's file, as if it had been started as a script.

    Without this, the `load_tests` of PyTorch's common_utils (torch 2.13) rejects the tests.
    """
    script = sys.argv[0]
    sys.argv[0] = getattr(module, "__file__", None) or script
    try:
        yield
    finally:
        sys.argv[0] = script


def select(loaded: Loaded, names: Sequence[str], files: Sequence[TestFile] = ()) -> Tests:
    """Return the tests that the names select, each once, in the order of the names.

    Args:
        loaded: the imported modules. A dotted name of another module is imported and added.
        names: as on the command line; no names select all tests.
        files: the imported files, for names that are paths.

    Raises:
        UsageError: if a name matches no test; the message suggests similar names.
    """
    meant = [test for name in names for test in _tests_matching(name, loaded, files)]
    return list(dict(meant if names else loaded.all_tests()).items())


def _in_path(name: str, loaded: Loaded, files: Sequence[TestFile]) -> Tests:
    """Return the tests of a file or folder, or of a class or method inside a file.

    Raises:
        UsageError: if the file only has tests for pytest, or nothing with that name.
    """
    path, inside = parts_of(name)
    theirs = [file for file in files if lies_in(file, name)]
    modules = [file.module for file in theirs if str(file.path) not in loaded.broken]
    found = [test for module in modules for test in loaded.tests.get(module, ())]
    if not found and any(loaded.unseen.get(module) for module in modules):
        module = next(module for module in modules if loaded.unseen.get(module))
        raise UsageError(on_unseen(loaded.unseen[module], path))
    meant = [(place, test) for place, test in found if not inside or _matches(inside, place, test)]
    # A name inside a module that is broken or skipped may exist; that module is reported anyway.
    has_failed = len(modules) < len(theirs) or any(
        module in loaded.broken or module in loaded.skipped for module in modules
    )
    if inside and not meant and not has_failed:
        near = nearest(inside, [test_id for (_, test_id, _), _ in found])
        raise UsageError(f"there is no {settings.quoted(inside)} in {path}{near}")
    return meant


def _tests_matching(name: str, loaded: Loaded, files: Sequence[TestFile]) -> Tests:
    if is_path(name):
        return _in_path(name, loaded, files)
    name = parts_of(name)[1]
    meant = [(place, test) for place, test in loaded.all_tests() if _matches(name, place, test)]
    # A name in a module that could not be imported may well exist; the broken module is reported
    # instead.
    if meant or any(_is_part(module, name) for module in (*loaded.broken, *loaded.skipped)):
        return meant
    if any(_is_part(name, module) for module in (*loaded.tests, *loaded.broken, *loaded.skipped)):
        return []
    return _import_for(name, loaded)


def _import_for(name: str, loaded: Loaded) -> Tests:
    """Return the tests of a dotted name elsewhere on `sys.path`: a module, or a name inside one."""
    # The longest prefix that is a module wins: `a.b.TestX.test_y` imports `a.b`.
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        module = ".".join(parts[:length])
        if not loaded.knows(module) and _can_find(module):
            loaded.add(module)
            tests = loaded.tests.get(module, [])
            if length == len(parts) or module not in loaded.tests:
                return tests
            if meant := [(place, test) for place, test in tests if _matches(name, place, test)]:
                return meant
            break
    raise UsageError(_unknown(name, loaded))


def _put_on_path(folder: str) -> None:
    if folder not in sys.path:
        sys.path.insert(0, folder)


def _can_find(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    # find_spec imports the parent packages, which may fail. ValueError: `__main__` has no spec.
    except (ImportError, ValueError, AttributeError):
        return False


def _matches(name: str, place: Place, test: unittest.TestCase) -> bool:
    """Whether a dotted name is part of a test's id, or of its class and method.

    Some libraries (absl, testscenarios) add arguments to the id, which users do not type.
    """
    if _is_part(name, place[1]):
        return True
    method = getattr(test, "_testMethodName", "")
    return bool(method) and _is_part(name, f"{strclass(type(test))}.{method}")


def _is_part(name: str, of: str) -> bool:
    """Whether a dotted name consists of consecutive parts of another: `C.test` of `m.C.test`."""
    return f".{name}." in f".{of}."


def _unknown(name: str, loaded: Loaded) -> str:
    ids = [test_id for (_, test_id, _), _ in loaded.all_tests()]
    if not (loaded.tests or loaded.broken or loaded.skipped):
        return (
            f"no test is called {settings.quoted(name)}: there are no test files (test_*.py) to "
            "search, and no module has this name"
        )
    if not ids:
        return f"no test is called {settings.quoted(name)}: the test files contain no tests"
    return f"no test is called {settings.quoted(name)}{nearest(name, ids)} (--list shows all)"


def _is_of(module: ModuleType, path: Path) -> bool:
    """Whether a module was imported from the file."""
    try:
        return os.path.samefile(_file_of(module), path)
    except OSError:
        return False


def _file_of(module: ModuleType) -> str:
    """Return a module's file, or a description of its origin if it has none."""
    origin = getattr(getattr(module, "__spec__", None), "origin", None)
    return str(getattr(module, "__file__", None) or origin or "no file")


def _other_file(module: ModuleType, path: Path) -> str:
    return (
        f"{path} is module {module.__name__}, but another file is imported by that name: "
        f"{_file_of(module)}. Rename one of the files or packages, or run them in two commands"
    )


def _flatten(suite: unittest.BaseTestSuite | unittest.TestCase) -> Iterator[unittest.TestCase]:
    if isinstance(suite, unittest.BaseTestSuite):
        for item in suite:
            yield from _flatten(item)
    else:
        yield suite


def _import_traceback() -> str:
    """Return the current exception's traceback without the frames of the import system."""
    kind, error, tb = sys.exc_info()
    machinery = (__file__, importlib.__file__)
    while tb is not None and (
        tb.tb_frame.f_code.co_filename in machinery
        or tb.tb_frame.f_code.co_filename.startswith("<frozen importlib")
    ):
        tb = tb.tb_next
    return "".join(traceback.format_exception(kind, error, tb)).rstrip()
