"""PyTorch's own harness with one change: a fork server starts its ranks.

A large test file of PyTorch's takes an hour with its own harness. With the fork server it takes
minutes, so that its verdicts can be compared with this harness's::

    python -m harness.bench.torch_forked --torch-checkout DIR FILE -v
    INIT_METHOD=env:// python run_tests.py --torch-checkout DIR FILE -v

The options are those of `python -m harness`. Its times are not those of PyTorch's harness.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from harness.runner.main import main

# The large modules to preload; a rank imports any others itself.
_PRELOADED = [
    "torch",
    "torch.testing._internal.distributed.distributed_test",
    "torch.testing._internal.distributed.rpc_utils",
]

_get_context = multiprocessing.get_context
_Forked: Any = _get_context("forkserver").Process


def _run(environ: dict[str, str], target: Callable[..., None], *args: Any, **kwargs: Any) -> None:
    """Run `target` in a rank with the parent's environment: a fork has the fork server's."""
    os.environ.clear()
    os.environ.update(environ)
    target(*args, **kwargs)


class Process(_Forked):
    """A forked process, although PyTorch's harness asks for a spawned one."""

    def __init__(
        self,
        group: None = None,
        target: Callable[..., None] | None = None,
        name: str | None = None,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        arguments = (dict(os.environ), target, *args)
        super().__init__(group, _run, name, arguments, dict(kwargs or {}))


class _Context:
    """The fork server's context, with the process above."""

    # Forks find the class by its name in this module, not in `__main__`.
    @property
    def Process(self) -> type:
        from harness.bench import torch_forked

        return torch_forked.Process

    def __getattr__(self, name: str) -> Any:
        return getattr(_get_context("forkserver"), name)


def _instead_of_spawn(method: str | None = None) -> Any:
    return _Context() if method == "spawn" else _get_context(method)


if __name__ == "__main__":
    import torch.multiprocessing

    # Forks read INIT_METHOD in the fork server, before a test creates its file.
    os.environ.setdefault("INIT_METHOD", "env://")
    torch.multiprocessing.get_context = _instead_of_spawn
    multiprocessing.set_forkserver_preload(_PRELOADED)
    main(["torch_forked", "--with-torchs", *sys.argv[1:]])
