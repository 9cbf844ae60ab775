"""Warnings, and the filters that decide about them, as data that travels between processes.

Categories travel by name. Where a process does not know the class of a filter, because it has not
imported the module, a stand-in matches by the names of a category's bases. So nothing is imported
for the sake of a filter.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

# What the main module of a process is called, in the process itself and in others that import it.
_MAIN, _MAIN_ELSEWHERE = "__main__", "__mp_main__"


@dataclass(frozen=True)
class IssuedWarning:
    """A warning that a rank has shown.

    Attributes:
        category: its class, as `module:qualname`.
        text: the message.
        file, line: where it was issued.
    """

    category: str
    text: str
    file: str
    line: int


def category_name(category: type) -> str:
    """The name by which a category travels."""
    module = category.__module__
    return f"{_MAIN if module == _MAIN_ELSEWHERE else module}:{category.__qualname__}"


def category_of(name: str) -> type[Warning] | None:
    """The category of this name, if this process has imported its module."""
    module, _, qualname = name.partition(":")
    try:
        found = attrgetter(qualname)(sys.modules[module])
    except (KeyError, AttributeError):
        return None
    return found if isinstance(found, type) and issubclass(found, Warning) else None


class _ByName(type):
    """The class of classes that stand for categories whose module is not imported here."""

    name: str

    def __subclasscheck__(cls, other: type) -> bool:
        return any(category_name(base) == cls.name for base in other.__mro__)


def _stand_in(name: str) -> type:
    return _ByName(name.rpartition(":")[2], (Warning,), {"name": name})


def current_filters() -> list[list[Any]]:
    """The filters of this process as they are now, as data that JSON can carry."""
    return [
        [action, _pattern_data(message), category_name(kind), _pattern_data(module), line]
        for action, message, categories, module, line in warnings.filters
        for kind in (categories if isinstance(categories, tuple) else (categories,))
    ]


def _pattern_data(pattern: Any) -> Any:
    """A pattern as its text and flags; filters that CPython itself makes have plain text."""
    return (
        pattern if pattern is None or isinstance(pattern, str) else [pattern.pattern, pattern.flags]
    )


def set_filters(data: Sequence[Sequence[Any]], first: Sequence[Any] = ()) -> None:
    """Make these the filters of this process; warnings shown before may be shown again.

    Args:
        data: what `current_filters` has returned elsewhere.
        first: filters of this process that come before them.
    """
    warnings.resetwarnings()
    filters: list[Any] = warnings.filters  # type: ignore[assignment]
    filters.extend(first)
    for action, message, category, module, line in data:
        kind = category_of(category) or _stand_in(category)
        filters.append((action, _pattern(message), kind, _pattern(module, of_module=True), line))


def _pattern(data: Any, of_module: bool = False) -> Any:
    if of_module and data == _MAIN:
        return re.compile(f"({_MAIN}|{_MAIN_ELSEWHERE})\\Z")
    return data if data is None or isinstance(data, str) else re.compile(data[0], data[1])
