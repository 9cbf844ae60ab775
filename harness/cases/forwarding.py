"""Names of PyTorch's test helpers that are none of our business: theirs, on first use."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection
from typing import Any


def forward(facade: str, module: str, names: Collection[str] | None = None) -> Callable[[str], Any]:
    """A module's `__getattr__` that takes names from another module, imported on first use.

    Args:
        facade: name of the module that shall have them.
        module: where they come from.
        names: the names; None for all public ones there.
    """

    def look_up(name: str) -> Any:
        if (name in names) if names is not None else not name.startswith("_"):
            theirs = importlib.import_module(module)
            if hasattr(theirs, name):
                return getattr(theirs, name)
        raise AttributeError(f"module {facade!r} has no attribute {name!r}")

    return look_up
