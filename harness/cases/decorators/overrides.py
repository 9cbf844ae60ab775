"""What a test says of itself: by a decorator of its method, or by its class, in an attribute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T", bound=Callable[..., Any])
V = TypeVar("V")


def saying(name: str, value: object) -> Callable[[T], T]:
    """A decorator by which a test says it; of a class, it sets the attribute.

    Args:
        name: of the class's attribute.
        value: what is said, which is known to make sense.
    """

    def mark(test: T) -> T:
        setattr(test, name if isinstance(test, type) else _mark(name), value)
        return test

    return mark


def said(
    case: Any, method: Callable[..., Any], name: str, checked: Callable[[object, str], V]
) -> V | None:
    """What a test's decorator says, else its class; None if nobody says anything.

    Args:
        case: the test.
        method: its method.
        name: of the class's attribute.
        checked: returns the attribute's value, or raises; is told whose it is, for the message.
    """
    marked: V | None = getattr(method, _mark(name), None)
    own = getattr(case, name, None)
    if marked is not None or own is None:
        return marked
    return checked(own, f"{type(case).__qualname__}.{name} = {own!r}")


def _mark(name: str) -> str:
    return f"_harness_{name}"
