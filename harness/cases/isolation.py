"""How much of a world a test shares with the one before it: decorator, class attribute, setting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from harness.cases.decorators.overrides import said, saying
from harness.model import settings
from harness.model.errors import SettingError
from harness.model.spec import ISOLATIONS

T = TypeVar("T", bound=Callable[..., Any])


def isolation(kind: str) -> Callable[[T], T]:
    """Decorator: the isolation of this one test, or of a class's tests, whatever else is said.

    Args:
        kind: "process" for ranks of its own, "group" for processes that have run other tests and a
            process group of its own, "none" for a process group that other tests have used.

    Raises:
        SettingError: if it is none of these.
    """
    return saying("isolation", _check(kind, f"@isolation({kind!r})"))


def isolation_of(case: Any, method: Callable[..., Any], usual: str) -> str:
    """The isolation of a test: its decorator's, its class's, the setting's, or the usual one.

    Raises:
        SettingError: if the class or the environment says something else than an isolation.
    """
    own = said(case, method, "isolation", _check)
    if own is not None:
        return own
    return settings.ISOLATION.value() if settings.ISOLATION.is_set() else usual


def _check(kind: object, owner: str) -> str:
    if kind not in ISOLATIONS:
        raise SettingError(f"{owner}: an isolation is one of {', '.join(ISOLATIONS)}")
    return str(kind)
