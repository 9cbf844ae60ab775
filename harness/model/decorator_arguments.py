"""Reject decorators that are written without their arguments, such as `@timeout` for `@timeout(5)`.

Python then passes the test to the decorator as its first argument, and binds the decorator's inner
function to the name of the test. Calling it may do nothing, so the test would pass without running.
"""

from __future__ import annotations

from types import FunctionType


def require_arguments(first: object, example: str) -> None:
    """Raise unless the decorator was called with arguments of its own.

    Args:
        first: the decorator's first argument.
        example: how the decorator is written, for the message.

    Raises:
        TypeError: if the first argument is a function or a class, which is the test.
    """
    if isinstance(first, FunctionType | type):
        raise TypeError(f"{first.__qualname__}: the decorator needs arguments: write {example}")
