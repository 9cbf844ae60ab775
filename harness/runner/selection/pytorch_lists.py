"""PyTorch's lists of disabled and of slow tests: read once, then applied to each test.

As with PyTorch, the variables `DISABLED_TESTS_FILE` and `SLOW_TESTS_FILE` name the files. A key
matches tests with its method name, also with a device and a dtype appended, in every class whose
name begins with the key's class. The module before the class is ignored.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
import unittest
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.runner.reports.text import one_line
from harness.runner.selection.pytorch_list_files import Disabled, read_disabled, read_slow

WITH_SLOW = "PYTORCH_TEST_WITH_SLOW"
SKIP_FAST = "PYTORCH_TEST_SKIP_FAST"

# The devices that PyTorch instantiates generic tests for, and the dtypes it appends to their names
# (torch 2.13, get_device_type_test_bases and get_all_dtypes). Repeated here, because the runner
# does not import torch.
_DEVICES = frozenset({"cpu", "cuda"})
_DTYPES = frozenset(
    {"uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64"}
    | {"bool", "complex64", "complex128"}
)


@dataclass(frozen=True)
class TestLists:
    """The tests that do not run, and why.

    Attributes:
        disabled: method name to its entries.
        slow: method name to the beginnings of the names of its classes.
        platforms: the names of platforms that apply here.
        with_slow: whether slow tests run.
        skip_fast: whether tests that are not slow are skipped.
        problems: a line for each problem with a list; the run ignores that part.
    """

    __test__ = False  # pytest would collect it, because its name starts with "Test"

    disabled: Mapping[str, tuple[Disabled, ...]] = field(default_factory=dict)
    slow: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    platforms: frozenset[str] = frozenset()
    with_slow: bool = False
    skip_fast: bool = False
    problems: tuple[str, ...] = ()

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] | None = None) -> TestLists:
        """Return the lists and flags that the environment names.

        As in PyTorch, a list only applies if its variable is set, on CI too.
        """
        environ = os.environ if environ is None else environ
        problems: list[str] = []
        platforms = _platforms(environ)
        return cls(
            {} if _is_sandbox(environ) else read_disabled(environ, frozenset(platforms), problems),
            read_slow(environ, problems),
            frozenset(name for name, applies in platforms.items() if applies),
            _on(environ, WITH_SLOW),
            _on(environ, SKIP_FAST),
            tuple(map(one_line, problems)),  # they quote the files
        )

    def skip_reason(self, test_id: str, marked_slow: bool = False) -> str | None:
        """Return why a test does not run; None if it does.

        Args:
            test_id: its id, which ends in the class and the method.
            marked_slow: whether it has PyTorch's `slowTest` decorator: `is_marked_slow()`.
        """
        slow = marked_slow or self.is_slow(test_id)
        if slow and not self.with_slow:
            return f"slow: runs with {WITH_SLOW}=1"
        for entry in _of(self.disabled, test_id):
            if _class_of(test_id).startswith(entry.owner) and self._applies(entry):
                return f"disabled: {entry.issue}"
        if self.skip_fast and not slow:
            return f"fast: left out by {SKIP_FAST}=1"
        return None

    def is_slow(self, test_id: str) -> bool:
        """Whether the test is in the list of slow tests."""
        return any(_class_of(test_id).startswith(owner) for owner in _of(self.slow, test_id))

    def _applies(self, entry: Disabled) -> bool:
        return not entry.platforms or bool(entry.platforms & self.platforms)


def is_marked_slow(test: unittest.TestCase) -> bool:
    """Whether a test's method has the mark of PyTorch's `slowTest` decorator."""
    method = getattr(test, getattr(test, "_testMethodName", ""), None)
    return bool(getattr(method, "slow_test", False))


def _of(entries: Mapping[str, tuple[Any, ...]], test_id: str) -> Iterator[Any]:
    """Yield the entries for a test's name, with and without an appended device and dtype."""
    name = test_id.rpartition(".")[2]
    for spelling in dict.fromkeys((name, _without_device_and_dtype(name))):
        yield from entries.get(spelling, ())


def _class_of(test_id: str) -> str:
    return test_id.rpartition(".")[0].rpartition(".")[2]


def _without_device_and_dtype(name: str) -> str:
    """Shorten `test_add_cpu_float32` to `test_add`; as in PyTorch, a device alone stays."""
    words = name.split("_")
    if words[-1] in _DTYPES:
        words.pop()
        if len(words) > 1 and words[-1] in _DEVICES:
            words.pop()
    return "_".join(words)


def _platforms(environ: Mapping[str, str]) -> dict[str, bool]:
    """Return PyTorch's platform names, each with whether it applies here."""
    inductor = _on(environ, "PYTORCH_TEST_WITH_INDUCTOR")
    implied = inductor or _on(environ, "PYTORCH_TEST_WITH_AOT_EAGER")
    dynamo = _on(environ, "PYTORCH_TEST_WITH_DYNAMO", implied)
    macos, windows = sys.platform == "darwin", sys.platform == "win32"
    return {
        "mac": macos,
        "macos": macos,
        "win": windows,
        "windows": windows,
        "linux": sys.platform == "linux",
        "rocm": _on(environ, "PYTORCH_TEST_WITH_ROCM", _is_build_for("rocm")),
        "xpu": _is_build_for("xpu"),
        "asan": _on(environ, "PYTORCH_TEST_WITH_ASAN"),
        "dynamo": dynamo,
        "dynamo_wrapped": dynamo,
        "inductor": inductor,
        "slow": _on(environ, WITH_SLOW),
    }


def _is_build_for(kind: str) -> bool:
    """Whether the installed torch's version names this kind (2.13.0+rocm7.0); no import needed."""
    try:
        return f"+{kind}" in importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return False


def _on(environ: Mapping[str, str], variable: str, implied: bool = False) -> bool:
    """Read a flag like PyTorch: only "1" is on; if it is unset, return `implied`."""
    return environ[variable] == "1" if variable in environ else implied


def _is_sandbox(environ: Mapping[str, str]) -> bool:
    """Whether this is Meta's CI, where PyTorch ignores the list of disabled tests."""
    return _on(environ, "SANDCASTLE", environ.get("TW_JOB_USER") == "sandcastle")
