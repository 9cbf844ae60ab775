"""From files to tests: import them, and pick the tests that the user's names mean."""

from __future__ import annotations

import difflib
import fnmatch
import gc
import importlib
import importlib.util
import os
import sys
import traceback
import unittest
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from types import ModuleType

from harness.model.errors import TorchMissingError, UsageError
from harness.runner.files import TestFile, is_path, lies_in

Tests = list[unittest.TestCase]


@dataclass
class Loaded:
    """What came of importing the test modules.

    Attributes:
        tests: module to its tests, in the order of unittest's loader.
        broken: module to text, for modules that could not be imported.
        skipped: module to reason, for modules that skipped themselves.
    """

    tests: dict[str, Tests] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def all_tests(self) -> Tests:
        return [test for tests in self.tests.values() for test in tests]

    def add(self, module: str) -> None:
        """Import a module and take in its tests, or the reason why there are none."""
        try:
            self.tests[module] = tests_of(importlib.import_module(module))
        except unittest.SkipTest as skip:
            self.skipped[module] = str(skip)
        except TorchMissingError as error:
            self.broken[module] = str(error)
        except (Exception, SystemExit):
            self.broken[module] = _import_traceback()

    def knows(self, module: str) -> bool:
        return module in self.tests or module in self.broken or module in self.skipped


def load(files: Iterable[TestFile]) -> Loaded:
    """Import all files. One that cannot be imported does not keep the others from it."""
    loaded = Loaded()
    # What imports make stays: collecting meanwhile makes them a sixth slower, and looking at it
    # again makes the imports that torch leaves until first use slower by as much.
    gc.disable()
    try:
        for file in files:
            file.put_on_path()
            loaded.add(file.module)
    finally:
        gc.freeze()
        gc.enable()
    return loaded


def tests_of(module: ModuleType) -> Tests:
    """All tests of a module, in the order of unittest's loader."""
    return list(_flatten(unittest.defaultTestLoader.loadTestsFromModule(module)))


def select(
    loaded: Loaded, names: Sequence[str], patterns: Sequence[str], files: Sequence[TestFile] = ()
) -> Tests:
    """The tests that the names and patterns mean, each once, in the order of the names.

    Args:
        loaded: the tests there are; a dotted name outside of them is imported and added.
        names: as on the command line; none means all.
        patterns: of `-k`; none means all.
        files: the files that were loaded, for names that are paths.

    Raises:
        UsageError: if a name means nothing; the message offers the nearest names.
    """
    meant = [test for name in names for test in _meant_by(name, loaded, files)]
    unique = {test.id(): test for test in (meant if names else loaded.all_tests())}
    return [test for test in unique.values() if _matches(test.id(), patterns)]


def _meant_by(name: str, loaded: Loaded, files: Sequence[TestFile]) -> Tests:
    if is_path(name):
        modules = [file.module for file in files if lies_in(file, name)]
        return [test for module in modules for test in loaded.tests.get(module, ())]
    meant = [test for test in loaded.all_tests() if _is_part(name, test.id())]
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
            if meant := [test for test in tests if _is_part(name, test.id())]:
                return meant
            break
    raise UsageError(_unknown(name, [test.id() for test in loaded.all_tests()]))


def _can_find(module: str) -> bool:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError, AttributeError):
        return False


def _is_part(name: str, of: str) -> bool:
    """Whether a dotted name is a run of whole parts of another: `C.test` of `mod.C.test`."""
    return f".{name}." in f".{of}."


def _unknown(name: str, ids: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, sorted(_runs_of_parts(ids)), n=3, cutoff=0.5)
    hint = f"; the nearest names are {', '.join(near)}" if near else ""
    return f"no test is called {name!r}{hint} (--list shows all)"


def _runs_of_parts(ids: Sequence[str]) -> set[str]:
    """Every name by which one of these tests, its class or its module can be called."""
    runs: set[str] = set()
    for parts in (test_id.split(".") for test_id in ids):
        for start in range(len(parts)):
            runs.update(".".join(parts[start:end]) for end in range(start + 1, len(parts) + 1))
    return runs


def _matches(test_id: str, patterns: Sequence[str]) -> bool:
    """Whether a `-k` pattern matches: as a wildcard if it has a star, else anywhere in the name."""
    return not patterns or any(
        fnmatch.fnmatchcase(test_id, pattern if "*" in pattern else f"*{pattern}*")
        for pattern in patterns
    )


def _flatten(suite: unittest.TestSuite | unittest.TestCase) -> Iterator[unittest.TestCase]:
    if isinstance(suite, unittest.TestSuite):
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
