"""The hooks that a subclass of PyTorch's harness may override, checked when the class is made."""

from __future__ import annotations

import inspect
from typing import Any

from harness.model.errors import HookSignatureError

# The hooks that the harness calls, and with what.
_HOOKS: dict[str, tuple[Any, ...]] = {
    "_run": (0, "test", "file", None),
    "run_test": ("self", "test", None),
    "join_or_run": ("self", None),
    "_spawn_processes": ("self",),
    "_start_processes": ("self", None),
    "_current_test_name": ("self",),
    "perRankSetUp": ("self",),
    "perRankTearDown": ("self",),
}


def check_hooks(cls: type) -> None:
    """Raise HookSignatureError if the class overrides a hook with other parameters than ours."""
    for name, arguments in _HOOKS.items():
        if name not in vars(cls):
            continue
        hook = vars(cls)[name]
        function = getattr(cls, name) if isinstance(hook, classmethod) else hook
        try:
            signature = inspect.signature(function)
            signature.bind(*arguments, **({"fake_pg": False} if name == "_run" else {}))
        except (TypeError, ValueError) as error:
            raise HookSignatureError(
                f"{cls.__qualname__}.{name}{_shown(function)} overrides a hook of the harness that "
                f"is called with {_call(name)}: {error}"
            ) from None


def _shown(function: Any) -> str:
    try:
        return str(inspect.signature(function))
    except (TypeError, ValueError):
        return ""


def _call(name: str) -> str:
    return {
        "_run": "(rank, test_name, file_name, pipe, **kwargs)",
        "run_test": "(test_name, parent_pipe)",
        "join_or_run": "(fn)",
        "_start_processes": "(proc)",
    }.get(name, "()")
