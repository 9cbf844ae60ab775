"""Exceptions of a rank as text: everything the reader needs, nothing that could fail to arrive."""

from __future__ import annotations

import os
import sys
import sysconfig
import traceback
import unittest
from functools import cache
from types import TracebackType

from harness.model import settings
from harness.model.outcome import Place, Problem

ExcInfo = (
    tuple[type[BaseException], BaseException, TracebackType]
    | tuple[type[BaseException] | None, BaseException | None, TracebackType | None]
)


def problem_of(exc_info: ExcInfo, subtest: str | None = None) -> Problem:
    """An exception as a `Problem`.

    Args:
        exc_info: as of `sys.exc_info()`.
        subtest: the parameters of the subtest it happened in, as unittest prints them.
    """
    kind, error, tb = exc_info
    assert kind is not None
    assert error is not None
    formatted = traceback.TracebackException(kind, error, tb)
    if not settings.FULL_TRACEBACKS.value():
        _fold(formatted)
    return Problem(
        type_name=_name_of(kind),
        message=_message_of(error),
        traceback="".join(formatted.format()).rstrip("\n"),
        is_assertion=issubclass(kind, AssertionError),
        where=_innermost_own(tb),
        subtest=subtest,
    )


def _name_of(kind: type[BaseException]) -> str:
    if kind.__module__ in {"builtins", "__main__", "__mp_main__"}:
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def _message_of(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as broken:
        return f"<str() of the exception raised {type(broken).__name__}>"


def _innermost_own(tb: TracebackType | None) -> Place | None:
    """The innermost line of the user's own code."""
    own: Place | None = None
    for frame, line in traceback.walk_tb(tb):
        code = frame.f_code
        if not is_foreign(code.co_filename):
            own = Place(code.co_filename, line, code.co_name, code.co_firstlineno)
    return own


@cache
def _foreign_folders() -> tuple[str, ...]:
    """Folders of code that the user did not write: Python's library, torch, the harness."""
    folders = [sysconfig.get_paths()["stdlib"], os.path.dirname(os.path.dirname(__file__))]
    torch = sys.modules.get("torch")
    if torch is not None and torch.__file__:
        folders.append(os.path.dirname(torch.__file__))
    expecttest = sys.modules.get("expecttest")
    if expecttest is not None and expecttest.__file__:
        folders.append(os.path.dirname(expecttest.__file__))
    return tuple(os.path.join(folder, "") for folder in folders)


def is_foreign(filename: str) -> bool:
    """Whether a frame of this file is Python's, torch's or the harness's rather than the user's."""
    if filename.startswith("<"):
        return True
    if "site-packages" not in filename and filename.startswith(_foreign_folders()[0]):
        return True
    return filename.startswith(_foreign_folders()[1:])


def _fold(formatted: traceback.TracebackException) -> None:
    """Drop the frames above the test, and those of unittest and the harness below it.

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
            current.stack[:] = [frame for frame in kept if not _is_testing_machinery(frame)]
        todo += [current.__cause__, current.__context__]


def _is_testing_machinery(frame: traceback.FrameSummary) -> bool:
    own = os.path.join(os.path.dirname(os.path.dirname(__file__)), "")
    return frame.filename.startswith((own, os.path.dirname(unittest.__file__)))
