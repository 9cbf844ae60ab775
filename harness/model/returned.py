"""Detect bodies that did not run, since they returned a coroutine or a generator, for example."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable
from typing import Any

from harness.model.errors import BodyNotRunError

__unittest = True  # unittest leaves the frames of such modules out of its tracebacks

_PLAIN = "make it a plain function, with asyncio.run(...) inside for what has to be awaited"
_NO_YIELD = "take the 'yield' out of it"


def check_returned(value: object, function: object) -> None:
    """Raise if a function has returned something that has yet to be run.

    Args:
        value: what it has returned. Coroutines and generators are closed, so that Python does not
            warn of them besides.
        function: the function, which the message names.

    Raises:
        BodyNotRunError: if the value is a coroutine, a generator or any other awaitable.
    """
    found = _unrun(value)
    if found is None:
        return
    if inspect.iscoroutine(value) or inspect.isgenerator(value):
        value.close()
    raise _error(function, *found)


def _unrun(value: object) -> tuple[str, str] | None:
    """What a value is that has yet to be run, and what to do about it; None if it is no such."""
    if value is None:
        return None
    if inspect.iscoroutine(value):
        return "a coroutine", _PLAIN
    if inspect.isasyncgen(value):
        return "an asynchronous generator", f"{_NO_YIELD}, and {_PLAIN}"
    if inspect.isgenerator(value):
        return "a generator", _NO_YIELD
    if inspect.isawaitable(value):
        return f"an awaitable ({type(value).__name__})", _PLAIN
    return None


def _error(function: object, what: str, advice: str) -> BodyNotRunError:
    name = getattr(function, "__qualname__", None) or repr(function)
    return BodyNotRunError(f"{name}() returned {what}, so its body did not run: {advice}")


def checked(function: Callable[[], Any]) -> Callable[[], Any]:
    """The function, raising BodyNotRunError if it returns something that has yet to be run.

    A bound method stays one: unittest shows it in a warning.
    """

    @functools.wraps(function)
    def call(*_: Any) -> Any:
        value = function()
        check_returned(value, function)
        return value

    owner = getattr(function, "__self__", None)
    return call if owner is None else types.MethodType(call, owner)


def check_wrapped(function: Any, drops: Callable[[str], bool]) -> None:
    """Raise if a wrapper drops what a function returns that does not run when it is called.

    Args:
        function: a test method with all its decorators.
        drops: whether wrappers that are defined in this file drop what the wrapped one returns.

    Raises:
        BodyNotRunError: if such a wrapper is around a coroutine function or a generator function.
    """
    while (inner := getattr(function, "__wrapped__", None)) is not None:
        code = getattr(getattr(function, "__func__", function), "__code__", None)
        if code is not None and drops(code.co_filename):
            _check_kind(inner)
        function = inner


def is_parametrized_by_pytest(function: object) -> bool:
    """Whether pytest.mark.parametrize decorates a function."""
    # Marks of pytest (9 and earlier) are in this list; pytest itself need not be imported.
    marks = getattr(function, "pytestmark", None)
    return isinstance(marks, list) and any(
        getattr(mark, "name", "") == "parametrize" for mark in marks
    )


def check_parametrized(function: object) -> None:
    """Raise if pytest.mark.parametrize decorates a method of a TestCase, where pytest ignores it.

    Raises:
        BodyNotRunError: which names the decorators that work.
    """
    if is_parametrized_by_pytest(function):
        name = getattr(function, "__qualname__", None) or repr(function)
        raise BodyNotRunError(
            f"{name}() is decorated with pytest.mark.parametrize, which pytest ignores for methods "
            "of a TestCase, so none of its cases has run: decorate it with harness.parametrize, "
            "and its class with harness.instantiate_parametrized_tests"
        )


def _check_kind(function: Any) -> None:
    if inspect.iscoroutinefunction(function):
        raise _error(function, "a coroutine", _PLAIN)
    if inspect.isasyncgenfunction(function):
        raise _error(function, "an asynchronous generator", f"{_NO_YIELD}, and {_PLAIN}")
    if inspect.isgeneratorfunction(function):
        raise _error(function, "a generator", _NO_YIELD)
