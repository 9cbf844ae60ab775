"""Hints about names that exist in the parent but not in a rank, such as those setUpClass set."""

from __future__ import annotations

import dis
import inspect
import sys
import unittest
from collections.abc import Iterator, Mapping
from types import FunctionType, ModuleType
from typing import Any

from harness.diagnosis.sources import is_foreign
from harness.model.invocation import short_path
from harness.model.outcome import Failed, MissingName, Raised
from harness.model.verdict import Verdict

# These hooks run in the ranks, so a name that they set cannot be missing there.
_IN_RANKS = frozenset({"perRankSetUp", "perRankTearDown"})


def hints(case: unittest.TestCase, verdict: Verdict) -> list[str]:
    """Return a sentence for each name that a rank did not find, but that this process has."""
    missing: dict[MissingName, None] = {}
    for report in verdict.reports:
        if isinstance(report.outcome, Failed | Raised):
            names = (problem.missing for problem in report.outcome.problems)
            missing.update(dict.fromkeys(name for name in names if name is not None))
    texts = (_hint(case, name) for name in missing)
    return [text for text in texts if text]


def _hint(case: unittest.TestCase, missing: MissingName) -> str:
    """Return the hint for one name; empty if this process does not have it either."""
    if missing.owner == "module":
        module = sys.modules.get(missing.owner_name)
        if module is None or missing.name not in vars(module):
            return ""
        what = f"the variable {missing.name} of module {missing.owner_name}"
        setter = _setter("STORE_GLOBAL", missing.name, _functions_of_module(module))
        where = "at module level"
    else:
        owner = type(case) if missing.owner == "self" else _class(case, missing.owner_name)
        own = vars(case) if missing.owner == "self" else {}
        if owner is None or not (missing.name in own or _has(owner, missing.name)):
            return ""
        what = f"self.{missing.name}" if missing.owner == "self" else f"cls.{missing.name}"
        setter = _setter("STORE_ATTR", missing.name, _functions_near(case))
        where = "in the class body"
    return (
        f"{what} exists in the test's own process{setter}, but not in the ranks: they are other "
        "processes, which run the test method, but not setUpModule, setUpClass, setUp or fixtures. "
        f"Set it in perRankSetUp(), which runs in every rank, or {where}."
    )


def _has(cls: type, name: str) -> bool:
    return any(name in vars(base) for base in cls.__mro__)


def _class(case: unittest.TestCase, qualname: str) -> type | None:
    return next((base for base in type(case).__mro__ if base.__qualname__ == qualname), None)


def _setter(opcode: str, name: str, functions: Iterator[FunctionType]) -> str:
    """Return which function sets the name, with its line; empty if none of them does."""
    # The bytecode is enough: no source is needed, and nested expressions cost no parsing.
    for function in functions:
        code = function.__code__
        for instruction in dis.get_instructions(code):
            if instruction.opname == opcode and instruction.argval == name:
                at = f"{short_path(code.co_filename)}:{code.co_firstlineno}"
                return f", where {function.__name__} ({at}) set it"
    return ""


def _functions_near(case: unittest.TestCase) -> Iterator[FunctionType]:
    """Yield the user's functions that may set attributes of the test or its class."""
    for cls in type(case).__mro__:
        yield from _functions(vars(cls))
    module = sys.modules.get(type(case).__module__)
    if module is not None:
        yield from _functions_of_module(module)


def _functions_of_module(module: ModuleType) -> Iterator[FunctionType]:
    yield from _functions(vars(module))
    for value in list(vars(module).values()):
        if isinstance(value, type) and value.__module__ == module.__name__:
            yield from _functions(vars(value))


def _functions(namespace: Mapping[str, Any]) -> Iterator[FunctionType]:
    for name, value in list(namespace.items()):
        if name in _IN_RANKS or name.startswith("test"):
            continue
        function = unwrapped(value)
        if isinstance(function, FunctionType) and not is_foreign(function.__code__.co_filename):
            yield function


def unwrapped(value: object) -> object:
    """Return the user's function inside a class method, decorated function or pytest fixture."""
    if isinstance(value, classmethod | staticmethod):
        value = value.__func__
    # getattr_static, since a user's `__getattr__` may have side effects.
    while (inner := inspect.getattr_static(value, "__wrapped__", None)) is not None:
        value = inner
    return value
