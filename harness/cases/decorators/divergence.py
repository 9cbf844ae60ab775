"""Declare that ranks diverge on purpose, so that the audit does not report it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from harness.model.decorator_arguments import require_arguments
from harness.model.errors import SettingError
from harness.ranks import this_rank

T = TypeVar("T", bound=Callable[..., Any])

_MARK = "__harness_diverges__"


class expects_divergence:
    """Declare that the ranks of a test diverge on purpose; the audit does not report it.

    As a decorator of a test or a class, it turns the audit off. In a `with` statement inside the
    body, it leaves out what the rank calls there; use it on every rank, or the other ranks' calls
    lack their partners.

    Args:
        reason: why; for the reader.

    Raises:
        SettingError: if the reason is empty or not a string.
        TypeError: if the decorator is written without a reason.
    """

    def __init__(self, reason: str) -> None:
        require_arguments(reason, '@expects_divergence("the reason")')
        if not isinstance(reason, str) or not reason.strip():
            raise SettingError(f"expects_divergence({reason!r}): say why the ranks diverge")
        self.reason = reason

    def __call__(self, test: T) -> T:
        setattr(test, _MARK, self.reason)
        return test

    def __enter__(self) -> None:
        this_rank.current().exempt_calls(True)

    def __exit__(self, *_: object) -> None:
        this_rank.current().exempt_calls(False)


def diverges_on_purpose(*marked: object) -> bool:
    """Return whether a test or its class carries the decorator."""
    return any(getattr(each, _MARK, "") for each in marked)
