"""The hooks that a test class may override, and a check of their signatures.

PyTorch's tests override methods of its harness that are formally private. The check runs when the
class is created, so a wrong override is one clear error instead of a TypeError in every rank.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.model.errors import HookSignatureError


@dataclass(frozen=True)
class Hook:
    """How the harness calls a hook.

    Attributes:
        shown: the parameters, as the error message shows them.
        arguments, keywords: example arguments, with `self` unless it is a classmethod.
    """

    shown: str
    arguments: tuple[Any, ...] = ("self",)
    keywords: Mapping[str, Any] = field(default_factory=dict)


PROCESS_HOOKS = {
    "_run": Hook(
        "(rank, test_name, file_name, parent_pipe, **kwargs)",
        (0, "test", "file", None),
        {"fake_pg": False},
    ),
    "run_test": Hook("(test_name, parent_pipe)", ("self", "test", None)),
    "join_or_run": Hook("(fn)", ("self", None)),
    "_spawn_processes": Hook("()"),
    "_start_processes": Hook("(proc)", ("self", None)),
    "_join_processes": Hook("(fn)", ("self", None)),
    "_check_return_codes": Hook("(fn, elapsed_time)", ("self", None, 0.0)),
    "_current_test_name": Hook("()"),
    "perRankSetUp": Hook("()"),
    "perRankTearDown": Hook("()"),
}

CONTINUOUS_HOOKS = {
    **{name: hook for name, hook in PROCESS_HOOKS.items() if name != "_run"},
    "_init_pg": Hook("(rank, world_size, rdvz_file)", (0, 2, "file")),
    "backend_str": Hook("()", ()),
    "opts": Hook("()", ()),
}

THREAD_HOOKS = {
    "_run": Hook("(test_name, rank, world_size, **kwargs)", ("test", 0, 2)),
    "run_test_with_threaded_pg": Hook("(test_name, rank, world_size)", ("self", "test", 0, 2)),
    "join_or_run": Hook("(fn)", ("self", None)),
    "_spawn_threads": Hook("()"),
    "perThreadSetUp": Hook("()"),
    "perThreadTearDown": Hook("()"),
}


def check_hooks(cls: type, hooks: Mapping[str, Hook]) -> None:
    """Raise HookSignatureError if the class overrides a hook with different parameters."""
    for name, hook in hooks.items():
        override = vars(cls).get(name)
        if isinstance(override, classmethod):
            override = getattr(cls, name)
        if not callable(override):
            continue
        try:
            inspect.signature(override).bind(*hook.arguments, **hook.keywords)
        except (TypeError, ValueError) as error:
            raise HookSignatureError(
                f"{cls.__qualname__}.{name}{_shown(override)} overrides a hook of the harness that "
                f"is called with {hook.shown}: {error}"
            ) from None


def _shown(function: Any) -> str:
    try:
        return str(inspect.signature(function))
    except (TypeError, ValueError):
        return ""
