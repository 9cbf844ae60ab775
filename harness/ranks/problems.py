"""Exceptions of a rank as text: everything the reader needs, nothing that could fail to arrive."""

from __future__ import annotations

import traceback
import unittest
from collections.abc import Callable
from types import ModuleType, TracebackType
from typing import Any

from harness.diagnosis.sources import is_foreign, is_machinery, is_pytest
from harness.model import settings
from harness.model.errors import HarnessError
from harness.model.outcome import MissingName, Place, Problem, SubTest
from harness.model.pytest_outcomes import is_failure

ExcInfo = (
    tuple[type[BaseException], BaseException, TracebackType]
    | tuple[type[BaseException] | None, BaseException | None, TracebackType | None]
)


def problem_of(exc_info: ExcInfo, subtest: SubTest | None = None) -> Problem:
    """An exception as a `Problem`.

    Args:
        exc_info: as of `sys.exc_info()`.
        subtest: the sub-test that it happened in.
    """
    kind, error, tb = exc_info
    assert kind is not None
    assert error is not None
    where = _innermost_own(tb)
    formatted = traceback.TracebackException(kind, error, tb)
    if not settings.FULL_TRACEBACKS.value():
        _fold(formatted)
        if issubclass(kind, HarnessError) and where is None:
            formatted.stack.clear()  # it says itself what is wrong with the test
    return Problem(
        type_name=_name_of(kind),
        message=_text_of(str, error),
        traceback=_printable("".join(formatted.format()).rstrip("\n")),
        is_assertion=issubclass(kind, AssertionError) or is_failure(kind),
        where=where,
        subtest=subtest,
        missing=_missing_name(error, tb),
    )


def _missing_name(error: BaseException, tb: TracebackType | None) -> MissingName | None:
    """The name of the test's instance, class or module that the exception is about."""
    if isinstance(error, AttributeError):
        name, owner = getattr(error, "name", None), getattr(error, "obj", None)
        if not isinstance(name, str):
            return None
        if isinstance(owner, unittest.TestCase):
            return MissingName(name, "self")
        if isinstance(owner, type) and issubclass(owner, unittest.TestCase):
            return MissingName(name, "class", owner.__qualname__)
        if isinstance(owner, ModuleType):
            return MissingName(name, "module", _module_name(owner.__name__))
    elif type(error) is NameError and isinstance(error.name, str) and tb is not None:
        *_, (frame, _) = traceback.walk_tb(tb)
        return MissingName(error.name, "module", _module_name(frame.f_globals.get("__name__", "")))
    return None


def _module_name(name: str) -> str:
    """The name that a module has in the parent."""
    return "__main__" if name == "__mp_main__" else name


def subtest_of(subtest: Any) -> SubTest:
    """What unittest's object for a sub-test says, as text."""
    given = subtest._message
    # unittest's mark for "no message" is a plain object() of its own.
    message = None if type(given) is object else _text_of(str, given)
    return SubTest(message, tuple((k, _text_of(repr, v)) for k, v in subtest.params.items()))


def _name_of(kind: type[BaseException]) -> str:
    if kind.__module__ in {"builtins", "__main__", "__mp_main__"}:
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def _text_of(convert: Callable[[object], str], value: object) -> str:
    """`str` or `repr` of a user's object, which may be as broken as what is being reported."""
    try:
        return _printable(convert(value))
    except BaseException as broken:
        kind = type(value).__name__
        return f"<{convert.__name__}() of the {kind} raised {type(broken).__name__}>"


def _printable(text: str) -> str:
    """The text with lone surrogates, which no output takes, as escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _innermost_own(tb: TracebackType | None) -> Place | None:
    """The innermost line of the user's own code."""
    own: Place | None = None
    for frame, line in traceback.walk_tb(tb):
        code = frame.f_code
        if not is_foreign(code.co_filename):
            own = Place(code.co_filename, line, code.co_name, code.co_firstlineno)
    return own


def _fold(formatted: traceback.TracebackException) -> None:
    """Drop the frames above the test, and those of unittest, pytest and the harness below it.

    torch's innermost frames stay: they name the operation that refused.
    """
    seen: set[int] = set()
    todo: list[traceback.TracebackException | None] = [formatted]
    while todo:
        current = todo.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        own = [i for i, frame in enumerate(current.stack) if not is_foreign(frame.filename)]
        if own:
            kept = list(current.stack)[own[0] :]
            current.stack[:] = [frame for frame in kept if not _is_folded(frame.filename)]
        todo += [current.__cause__, current.__context__]


def _is_folded(filename: str) -> bool:
    return is_machinery(filename) or is_pytest(filename)
