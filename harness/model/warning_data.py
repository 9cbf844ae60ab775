"""Convert warnings and warning filters to data that processes can send to each other.

A category is sent as its name. If the receiver has not imported the module of a filter's category,
a stand-in class matches categories by the names of their bases. So no filter causes an import,
which could take seconds or fail.
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
        file, line: the place that issued it.
    """

    category: str
    text: str
    file: str
    line: int


def category_name(category: type) -> str:
    """Return the name by which a category is sent."""
    module = category.__module__
    return f"{_MAIN if module == _MAIN_ELSEWHERE else module}:{category.__qualname__}"


def category_of(name: str) -> type[Warning] | None:
    """Return the category with this name; None if this process has not imported its module."""
    module, _, qualname = name.partition(":")
    try:
        found = attrgetter(qualname)(sys.modules[module])
    except (KeyError, AttributeError):
        return None
    return found if isinstance(found, type) and issubclass(found, Warning) else None


class _ByName(type):
    """The metaclass of stand-ins for categories whose module is not imported here."""

    name: str

    def __subclasscheck__(cls, other: type) -> bool:
        return any(category_name(base) == cls.name for base in other.__mro__)


def _stand_in(name: str) -> type:
    return _ByName(name.rpartition(":")[2], (Warning,), {"name": name})


def current_filters() -> list[list[Any]]:
    """Return the current filters of this process as data for JSON."""
    return [
        [action, _pattern_data(message), category_name(kind), _pattern_data(module), line]
        for action, message, categories, module, line in warnings.filters
        for kind in (categories if isinstance(categories, tuple) else (categories,))
    ]


def _pattern_data(pattern: Any) -> Any:
    """Return a pattern as text and flags; CPython's own filters have plain text instead."""
    return (
        pattern if pattern is None or isinstance(pattern, str) else [pattern.pattern, pattern.flags]
    )


def set_filters(data: Sequence[Sequence[Any]], first: Sequence[Any] = ()) -> None:
    """Replace the filters of this process; warnings that it has shown may be shown again.

    Args:
        data: the result of `current_filters` in another process.
        first: filters to put before them.
    """
    # resetwarnings() also invalidates the caches (`__warningregistry__`) by which Python remembers
    # what it has shown. Then the list itself is changed: simplefilter() would reorder the filters.
    warnings.resetwarnings()
    filters: list[Any] = warnings.filters  # type: ignore[assignment]
    filters.extend(first)
    for action, message, category, module, line in data:
        kind = category_of(category) or _stand_in(category)
        filters.append((action, _pattern(message), kind, _pattern(module, of_module=True), line))


def _pattern(data: Any, of_module: bool = False) -> Any:
    # A filter for `__main__` must match the same script in a rank, where it has another name.
    if of_module and data == _MAIN:
        return re.compile(f"({_MAIN}|{_MAIN_ELSEWHERE})\\Z")
    return data if data is None or isinstance(data, str) else re.compile(data[0], data[1])
