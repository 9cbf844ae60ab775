"""Finds what the harness has replaced in other libraries, in the process that calls `replaced`."""

from __future__ import annotations

import random
import sys
import types

_NOT_OTHERS = ("harness", "suites", "__main__", "__mp_main__", "test_replaced")


def replaced() -> list[str]:
    """Return the attributes of others' modules and classes whose values the harness has made."""
    found = set()
    for name, module in list(sys.modules.items()):
        if not isinstance(module, types.ModuleType) or name.split(".")[0] in _NOT_OTHERS:
            continue
        if _is_ours(type(module)):
            found.add(f"the class of {module.__name__}")
        for attribute, value in list(vars(module).items()):
            is_known = value is random._inst and name != "random"  # others have it, too
            if isinstance(value, types.ModuleType) or is_known:
                continue
            if _is_ours(value):
                found.add(f"{name}.{attribute}")
            elif isinstance(value, type) and value.__module__ == name:
                found.update(
                    f"{name}.{attribute}.{inner}"
                    for inner, member in list(vars(value).items())
                    if _is_ours(getattr(member, "__func__", member))
                )
    return sorted(found)


def _is_ours(value: object) -> bool:
    """Whether the harness defines it, or its class."""
    for owner in (value, type(value)):
        try:
            module = getattr(owner, "__module__", None)
        except Exception:  # objects that compute their attributes
            continue
        if isinstance(module, str) and module.split(".")[0] == "harness":
            return True
    return False
