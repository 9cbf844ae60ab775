"""From files to tests: import them, and pick the tests that the user's names mean."""

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
from typing import Any
from unittest.util import strclass

from harness.model import settings
from harness.model.errors import TorchMissingError, UsageError
from harness.model.importing import imports_uncollected
from harness.runner.selection.expressions import any_matcher
from harness.runner.selection.files import TestFile, is_path, lies_in, parts_of
from harness.runner.selection.near_names import nearest
from harness.runner.selection.planned_test import Place, describe
from harness.runner.selection.pytest_style import on_unseen, parametrized_by_pytest, unseen_tests
from harness.runner.selection.remarks import remarks_on
from harness.runner.workers.worker_spec import Wanted

#: Tests, each with the place where any process finds it again.
Tests = list[tuple[Place, unittest.TestCase]]


@dataclass
class Loaded:
    """What came of importing the test modules.

    Attributes:
        tests: module to its tests, in the order of unittest's loader.
        broken: module to text, for modules that could not be imported; a file whose module's name
            another file has is here by its path.
        skipped: module to reason, for modules that skipped themselves.
        unseen: module to the names of its tests that only pytest finds.
        parametrized: module to the names of its methods that only pytest was to parametrize.
    """

    tests: dict[str, Tests] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    unseen: dict[str, list[str]] = field(default_factory=dict)
    parametrized: dict[str, list[str]] = field(default_factory=dict)

    def all_tests(self) -> Tests:
        return [test for tests in self.tests.values() for test in tests]

    def add(self, module: str, path: Path | None = None) -> None:
        """Import a module and take in its tests, or the reason why there are none.

        Args:
            module: its name.
            path: its file; None if any will do.
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
        except (Exception, SystemExit):
            self.broken[module] = _import_traceback()

    def take(self, module: ModuleType, name: str) -> None:
        """Take in the tests of a module that has been imported."""
        self.tests[name] = tests_of(module, name)
        self.unseen[name] = unseen_tests(module)
        self.parametrized[name] = parametrized_by_pytest(module)

    def knows(self, module: str) -> bool:
        return module in self.tests or module in self.broken or module in self.skipped


def discover(
    wanted: Wanted, keep: Callable[[Mapping[Place, unittest.TestCase]], None]
) -> dict[str, Any]:
    """Import the files and select the tests.

    Args:
        wanted: which tests.
        keep: is given the tests, by their places.

    Returns:
        the plan, as data that JSON can carry: `tests`, how many were `found` before `-k` left some
        out, `remarks` on what did not become a test, the machine's `devices` if any test uses some,
        and of the modules that gave none, why: `broken`, `skipped`.

    Raises:
        UsageError: if a name means nothing.
    """
    loaded = _load_wanted(wanted)
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
    return {
        "tests": [plan.to_data() for plan in plans],
        "found": len(found),
        "remarks": remarks,
        "broken": loaded.broken,
        "skipped": loaded.skipped,
        "devices": _devices() if any(plan.devices for plan in plans) else [],
    }


def _copies(tests: Tests) -> tuple[dict[Place, int], dict[type, int]]:
    """Which of the tests with its id each test is, and which of those with its name each class."""
    by_id, by_name = Counter[str](), Counter[str]()
    copies: dict[Place, int] = {}
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
    """The devices (GPUs) that tests may use, as `CUDA_VISIBLE_DEVICES` calls them."""
    torch = sys.modules.get("torch")
    count = torch.accelerator.device_count() if torch is not None else 0
    given = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    named = [name.strip() for name in given.split(",") if name.strip()]
    return (named or [str(number) for number in range(count)])[:count]


def tests_in_module_of(place: Place, wanted: Wanted) -> dict[Place, unittest.TestCase]:
    """Fresh instances of all tests of the module that a test was loaded from, by their places.

    Raises:
        UsageError: if there is no such test (any more).
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
            f"{test_id} is not found by another process, though module {module} had it when the "
            f"run began: a module must give the same tests each time that it is imported{why}"
        )
    return tests


#: The module of the script that was started.
MAIN = "__main__"


def _load_wanted(wanted: Wanted) -> Loaded:
    if not wanted.is_script:
        return load(wanted.files)
    loaded = Loaded()
    loaded.take(sys.modules[MAIN], MAIN)
    return loaded


def load(files: Iterable[TestFile]) -> Loaded:
    """Import all files. One that cannot be imported does not keep the others from it."""
    loaded = Loaded()
    with imports_uncollected():
        for file in files:
            file.put_on_path()
            loaded.add(file.module, file.path)
    return loaded


def tests_of(module: ModuleType, name: str) -> Tests:
    """All tests of the module that has this name, in the order of unittest's loader."""
    with _named_as_the_script(module):
        found = list(_flatten(unittest.defaultTestLoader.loadTestsFromModule(module)))
    numbers = Counter[str]()
    tests: Tests = []
    for test in found:
        test_id = test.id()
        tests.append(((name, test_id, numbers[test_id]), test))
        numbers[test_id] += 1
    return tests


@contextlib.contextmanager
def _named_as_the_script(module: ModuleType) -> Iterator[None]:
    """Have `sys.argv[0]` be the module's file meanwhile, as if it had been started as a script.

    The `load_tests` of PyTorch's common_utils (torch 2.13) rejects the tests of any other file.
    """
    script = sys.argv[0]
    sys.argv[0] = getattr(module, "__file__", None) or script
    try:
        yield
    finally:
        sys.argv[0] = script


def select(loaded: Loaded, names: Sequence[str], files: Sequence[TestFile] = ()) -> Tests:
    """The tests that the names mean, each once, in the order of the names.

    Args:
        loaded: the tests there are; a dotted name outside of them is imported and added.
        names: as on the command line; none means all.
        files: the files that were loaded, for names that are paths.

    Raises:
        UsageError: if a name means nothing; the message offers the nearest names.
    """
    meant = [test for name in names for test in _meant_by(name, loaded, files)]
    return list(dict(meant if names else loaded.all_tests()).items())


def _in_path(name: str, loaded: Loaded, files: Sequence[TestFile]) -> Tests:
    """The tests of a file or folder, or of something inside it.

    Raises:
        UsageError: if the file has tests for pytest only, or nothing of that name.
    """
    path, inside = parts_of(name)
    theirs = [file for file in files if lies_in(file, name)]
    modules = [file.module for file in theirs if str(file.path) not in loaded.broken]
    found = [test for module in modules for test in loaded.tests.get(module, ())]
    if not found and any(loaded.unseen.get(module) for module in modules):
        module = next(module for module in modules if loaded.unseen.get(module))
        raise UsageError(on_unseen(loaded.unseen[module], path))
    meant = [(place, test) for place, test in found if not inside or _is_meant(inside, place, test)]
    has_failed = len(modules) < len(theirs) or any(
        module in loaded.broken or module in loaded.skipped for module in modules
    )
    if inside and not meant and not has_failed:
        near = nearest(inside, [test_id for (_, test_id, _), _ in found])
        raise UsageError(f"there is no {settings.quoted(inside)} in {path}{near}")
    return meant


def _meant_by(name: str, loaded: Loaded, files: Sequence[TestFile]) -> Tests:
    if is_path(name):
        return _in_path(name, loaded, files)
    name = parts_of(name)[1]
    meant = [(place, test) for place, test in loaded.all_tests() if _is_meant(name, place, test)]
    if meant or any(_is_part(module, name) for module in (*loaded.broken, *loaded.skipped)):
        return meant
    if any(_is_part(name, module) for module in (*loaded.tests, *loaded.broken, *loaded.skipped)):
        return []
    return _import_for(name, loaded)


def _import_for(name: str, loaded: Loaded) -> Tests:
    """The tests of a dotted name elsewhere on the path: a module, or something inside one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        module = ".".join(parts[:length])
        if not loaded.knows(module) and _can_find(module):
            loaded.add(module)
            tests = loaded.tests.get(module, [])
            if length == len(parts) or module not in loaded.tests:
                return tests
            if meant := [(place, test) for place, test in tests if _is_meant(name, place, test)]:
                return meant
            break
    raise UsageError(_unknown(name, [test_id for (_, test_id, _), _ in loaded.all_tests()]))


def _put_on_path(folder: str) -> None:
    if folder not in sys.path:
        sys.path.insert(0, folder)


def _can_find(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError, AttributeError):
        return False


def _is_meant(name: str, place: Place, test: unittest.TestCase) -> bool:
    """Whether a dotted name is part of a test's id, or of its class and method.

    Some libraries (absl, testscenarios) add arguments to the id, which nobody wants to type.
    """
    if _is_part(name, place[1]):
        return True
    method = getattr(test, "_testMethodName", "")
    return bool(method) and _is_part(name, f"{strclass(type(test))}.{method}")


def _is_part(name: str, of: str) -> bool:
    """Whether a dotted name is a run of whole parts of another: `C.test` of `mod.C.test`."""
    return f".{name}." in f".{of}."


def _unknown(name: str, ids: Sequence[str]) -> str:
    if not ids:
        return (
            f"no test is called {settings.quoted(name)}: the test files that were found have none"
        )
    return f"no test is called {settings.quoted(name)}{nearest(name, ids)} (--list shows all)"


def _is_of(module: ModuleType, path: Path) -> bool:
    """Whether a module was imported from the file."""
    try:
        return os.path.samefile(_file_of(module), path)
    except OSError:
        return False


def _file_of(module: ModuleType) -> str:
    """Where a module comes from, in words if it is no file."""
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
    """The current exception, from the first frame that is not the import machinery's."""
    kind, error, tb = sys.exc_info()
    machinery = (__file__, importlib.__file__)
    while tb is not None and (
        tb.tb_frame.f_code.co_filename in machinery
        or tb.tb_frame.f_code.co_filename.startswith("<frozen importlib")
    ):
        tb = tb.tb_next
    return "".join(traceback.format_exception(kind, error, tb)).rstrip()
