"""Turn exceptions of a rank into plain text that can always be sent."""

from __future__ import annotations

import re
import traceback
import unittest
from collections.abc import Callable
from itertools import takewhile
from types import ModuleType, TracebackType
from typing import Any

from harness.diagnosis.sources import HARNESS, is_foreign, is_machinery, is_pytest
from harness.model import settings
from harness.model.errors import HarnessError
from harness.model.outcome import MissingName, Place, Problem, SubTest
from harness.model.pytest_outcomes import is_failure

ExcInfo = (
    tuple[type[BaseException], BaseException, TracebackType]
    | tuple[type[BaseException] | None, BaseException | None, TracebackType | None]
)


def problem_of(exc_info: ExcInfo, subtest: SubTest | None = None) -> Problem:
    """Return an exception as a `Problem`.

    Args:
        exc_info: the result of `sys.exc_info()`.
        subtest: the sub-test in which it happened.
    """
    kind, error, tb = exc_info
    assert kind is not None
    assert error is not None
    where = _innermost_own(tb)
    formatted = traceback.TracebackException(kind, error, tb)
    if not settings.FULL_TRACEBACKS.value():
        _fold(formatted, error)
        if issubclass(kind, HarnessError) and where is None:
            formatted.stack.clear()  # only frames of the harness; the message says what is wrong
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
    """Return the missing name of the test's instance, class or module that caused the exception."""
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
    """Return the name of a module in the parent, where the script is `__main__`."""
    return "__main__" if name == "__mp_main__" else name


def subtest_of(subtest: Any) -> SubTest:
    """Return unittest's sub-test object as text."""
    raw = subtest._message
    # unittest marks "no message" with a plain object() (CPython 3.11 to 3.14).
    message = None if type(raw) is object else _text_of(str, raw)
    return SubTest(message, tuple((k, _text_of(repr, v)) for k, v in subtest.params.items()))


def _name_of(kind: type[BaseException]) -> str:
    if kind.__module__ in {"builtins", "__main__", "__mp_main__"}:
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def _text_of(convert: Callable[[object], str], value: object) -> str:
    """Return `str` or `repr` of a user's object, or a note if that raises."""
    try:
        return _printable(convert(value))
    except BaseException as broken:
        kind = type(value).__name__
        return f"<{convert.__name__}() of the {kind} raised {type(broken).__name__}>"


def _printable(text: str) -> str:
    """Return the text with lone surrogates escaped, since they cannot be encoded."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _innermost_own(tb: TracebackType | None) -> Place | None:
    """Return the innermost line of the user's own code."""
    own: Place | None = None
    for frame, line in traceback.walk_tb(tb):
        code = frame.f_code
        if not is_foreign(code.co_filename):
            own = Place(code.co_filename, line, code.co_name, code.co_firstlineno)
    return own


def _fold(formatted: traceback.TracebackException, error: BaseException) -> None:
    """Drop the frames above the test, and those of unittest, pytest and the harness below it.

    torch's innermost frames stay, since they name the operation that failed. Does the same to the
    exceptions that the traceback also shows: causes, contexts, and members of groups.
    """
    seen: set[int] = set()
    todo: list[tuple[traceback.TracebackException | None, Any]] = [(formatted, error)]
    while todo:
        current, error = todo.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        # Without a frame of the user, nothing is dropped: the error is in a library, or a bug of
        # the harness, and the whole stack may matter.
        own = [i for i, frame in enumerate(current.stack) if not is_foreign(frame.filename)]
        if own:
            kept = list(current.stack)[own[0] :]
            current.stack[:] = [frame for frame in kept if not _is_folded(frame.filename)]
        else:
            del current.stack[: _frames_above_the_test(error)]
        todo += [(current.__cause__, error.__cause__), (current.__context__, error.__context__)]
        todo += zip(current.exceptions or (), getattr(error, "exceptions", ()), strict=True)


def _frames_above_the_test(error: BaseException) -> int:
    """Return how many of the outer frames to drop if none of the frames is the user's.

    unittest drops the outer frames of modules that are marked with `__unittest`. The error may be
    in the harness itself, though, and then all frames are needed. It is not if the user's function
    could not be called with these arguments, which Python reports in the frame of the caller.
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    if isinstance(error, TypeError) and _WRONG_ARGUMENTS.match(_text_of(str, error)):
        return len(frames)
    if frames and frames[-1].f_code.co_filename.startswith(HARNESS):
        return 0
    return len(list(takewhile(lambda frame: "__unittest" in frame.f_globals, frames)))


# "f() missing 1 required positional argument", "f() takes 1 positional argument but 2 were given",
# "f() got an unexpected keyword argument"
_WRONG_ARGUMENTS = re.compile(r"[\w.<>]+\(\) (missing|takes|got) ")


def _is_folded(filename: str) -> bool:
    return is_machinery(filename) or is_pytest(filename)
