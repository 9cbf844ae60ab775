"""From files to tests: import them, and pick the tests that the user's names mean."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
import sys
import traceback
import unittest
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from harness.model.errors import TorchMissingError, UsageError
from harness.model.importing import imports_uncollected
from harness.runner.expressions import matcher
from harness.runner.files import TestFile, is_path, lies_in
from harness.runner.orders import Wanted
from harness.runner.plan import describe

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


def discover(
    wanted: Wanted, keep: Callable[[Mapping[str, unittest.TestCase]], None]
) -> dict[str, Any]:
    """Import the files and select the tests.

    Args:
        wanted: which tests.
        keep: is given the tests, by their ids.

    Returns:
        the plan, as data that JSON can carry: `tests`, the machine's `devices` if any test uses
        some, and of the modules that gave none, why: `broken`, `skipped`.

    Raises:
        UsageError: if a name means nothing.
    """
    loaded = _load_wanted(wanted)
    tests = select(loaded, wanted.names, wanted.patterns, wanted.files)
    keep({test.id(): test for test in tests})
    plans = [describe(test) for test in tests]
    return {
        "tests": [plan.to_data() for plan in plans],
        "broken": loaded.broken,
        "skipped": loaded.skipped,
        "devices": _devices() if any(plan.devices for plan in plans) else [],
    }


def _devices() -> list[str]:
    """The devices (GPUs) that tests may use, as `CUDA_VISIBLE_DEVICES` calls them."""
    torch = sys.modules.get("torch")
    count = torch.accelerator.device_count() if torch is not None else 0
    given = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    named = [name.strip() for name in given.split(",") if name.strip()]
    return (named or [str(number) for number in range(count)])[:count]


def tests_by_id(wanted: Wanted, test_id: str) -> dict[str, unittest.TestCase]:
    """Fresh instances of the tests of the module that a test is in, by their ids.

    Raises:
        UsageError: if there is no such test (any more).
    """
    modules = [MAIN] if wanted.is_script else [file.module for file in wanted.files]
    parts = test_id.split(".")
    prefixes = [".".join(parts[:length]) for length in range(len(parts) - 1, 0, -1)]
    for name in sorted(modules, key=lambda module: module not in prefixes):
        tests = _tests_by_id_of(name)
        if test_id in tests:
            return tests
    for name in prefixes:  # a module that only a dotted name meant
        if _can_find(name) and test_id in (tests := _tests_by_id_of(name)):
            return tests
    raise UsageError(f"there is no test {test_id}, though there was when the run began")


def _tests_by_id_of(module: str) -> dict[str, unittest.TestCase]:
    try:
        return {test.id(): test for test in tests_of(importlib.import_module(module))}
    except (Exception, SystemExit):  # it was told when the run began
        return {}


#: The module of the script that was started.
MAIN = "__main__"


def _load_wanted(wanted: Wanted) -> Loaded:
    if wanted.is_script:
        return Loaded({MAIN: tests_of(sys.modules[MAIN])})
    return load(wanted.files)


def load(files: Iterable[TestFile]) -> Loaded:
    """Import all files. One that cannot be imported does not keep the others from it."""
    loaded = Loaded()
    with imports_uncollected():
        for file in files:
            file.put_on_path()
            loaded.add(file.module)
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
    matchers = [matcher(pattern) for pattern in patterns]
    return [
        test
        for test_id, test in unique.items()
        if not matchers or any(matches(test_id) for matches in matchers)
    ]


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
