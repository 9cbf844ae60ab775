"""Find tests in pytest's style, which unittest's loader ignores, to tell the user about them."""

from __future__ import annotations

import inspect
import unittest
from collections.abc import Iterator
from types import ModuleType

from harness.model.returned import is_parametrized_by_pytest

# How many names a message lists.
_MAX_NAMES = 3


def unseen_tests(module: ModuleType) -> list[str]:
    """Return the names of the functions and classes that only pytest collects as tests."""
    if hasattr(module, "load_tests"):  # it may return tests made from them
        return []
    return [name for name, value in _defined_in(module) if _is_test(name, value, module)]


def parametrized_by_pytest(module: ModuleType) -> list[str]:
    """Return the names of TestCase methods with pytest.mark.parametrize, which has no effect."""
    return [
        f"{name}.{method}"
        for name, cls in _defined_in(module)
        if isinstance(cls, type) and issubclass(cls, unittest.TestCase)
        for method, function in vars(cls).items()
        if is_parametrized_by_pytest(function)
    ]


def on_unseen(names: list[str], where: str) -> str:
    """Return a remark about tests that unittest's loader does not find, and how to run them."""
    return (
        f"not run: {shortened_list(names)} in {where}: these are tests for pytest, and unittest's "
        "loader, which this runner uses, takes only methods of TestCase classes: run them with "
        "python -m pytest"
    )


def shortened_list(names: list[str]) -> str:
    """Return the first names, and the number of the others."""
    more = len(names) - _MAX_NAMES
    return ", ".join(names[:_MAX_NAMES]) + (f" and {more} more" if more > 0 else "")


def _defined_in(module: ModuleType) -> Iterator[tuple[str, object]]:
    """Yield the functions and classes that the module defines, not those that it imports."""
    for name, value in list(vars(module).items()):
        if getattr(value, "__module__", None) == module.__name__:
            yield name, value


def _is_test(name: str, value: object, module: ModuleType) -> bool:
    if getattr(value, "__test__", True) is False:
        return False
    if inspect.isfunction(value):
        return name.startswith("test")
    if not isinstance(value, type) or not name.startswith("Test"):
        return False
    # unittest's loader finds these.
    if issubclass(value, unittest.TestCase) or _is_base_of_a_case(value, module):
        return False
    return any(attribute.startswith("test") for attribute in vars(value))


def _is_base_of_a_case(cls: type, module: ModuleType) -> bool:
    """Whether it is a mixin, whose tests run in a TestCase that inherits from it."""
    return any(
        isinstance(other, type) and issubclass(other, cls) and issubclass(other, unittest.TestCase)
        for other in vars(module).values()
    )
