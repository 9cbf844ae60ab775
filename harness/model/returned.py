"""Detect tests whose body did not run: they returned a coroutine, a generator or an awaitable.

unittest only warns about these (Python 3.11), so such a test would pass without having run.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable
from typing import Any

from harness.model.errors import BodyNotRunError

# unittest leaves out of its tracebacks the frames of modules with this name, so a traceback ends in
# the user's test.
__unittest = True

_PLAIN = "make it a plain function, and call asyncio.run(...) in it for what must be awaited"
_NO_YIELD = "remove the 'yield'"


def check_returned(value: object, function: object) -> None:
    """Raise if a function has returned a coroutine, a generator or an awaitable.

    Args:
        value: what it has returned. Coroutines and generators are closed, so that Python does not
            also warn that they were never awaited.
        function: the function, for the message.

    Raises:
        BodyNotRunError: if the value is a coroutine, a generator or any other awaitable.
    """
    found = _kind_and_advice(value)
    if found is None:
        return
    if inspect.iscoroutine(value) or inspect.isgenerator(value):
        value.close()
    raise _error(function, *found)


def _kind_and_advice(value: object) -> tuple[str, str] | None:
    """Return what kind of unfinished value this is, and what to do; None for other values."""
    if value is None:
        return None
    # The order matters: coroutines are awaitable, too, but the advice for generators is different.
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
    """Return the function with a check of what it returns (`check_returned`).

    A bound method stays a bound method, since unittest shows it in warnings.
    """

    @functools.wraps(function)
    def call(*_: Any) -> Any:
        value = function()
        check_returned(value, function)
        return value

    owner = getattr(function, "__self__", None)
    return call if owner is None else types.MethodType(call, owner)


def check_wrapped(function: Any, drops: Callable[[str], bool]) -> None:
    """Raise if a decorator drops what a coroutine function or a generator function returns.

    `check_returned` cannot see such a value.

    Args:
        function: a test method with all its decorators.
        drops: whether the decorators defined in a file drop what the decorated function returns.

    Raises:
        BodyNotRunError: if such a decorator wraps a coroutine function or a generator function.
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
        BodyNotRunError: with the names of the decorators that work.
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
