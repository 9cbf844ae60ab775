"""Forward names that the harness does not define to PyTorch's test helpers, on first use.

The import is lazy, because torch.testing._internal is slow to import and most tests do without it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection
from typing import Any


def forward(facade: str, module: str, names: Collection[str] | None = None) -> Callable[[str], Any]:
    """Return a module `__getattr__` that takes names from another module, imported on first use.

    Args:
        facade: the module that offers the names.
        module: the module that defines them.
        names: the names; None for all public names.
    """

    def look_up(name: str) -> Any:
        if (name in names) if names is not None else not name.startswith("_"):
            theirs = importlib.import_module(module)
            if hasattr(theirs, name):
                return getattr(theirs, name)
        raise AttributeError(f"module {facade!r} has no attribute {name!r}")

    return look_up
