"""See what a rank reads and writes while operations are in flight."""

from __future__ import annotations

import functools
from typing import Any

from harness.ranks import this_rank
from harness.ranks.call_recorder import CallRecorder
from harness.ranks.regions import region_of


def watch_tensors(on: bool) -> None:
    """Watch what the calling thread reads and writes, or stop watching.

    A dispatch mode sees it. It is pushed only on an empty stack, so that a test's own modes are
    pushed above it, and popped before it. It stays while one of them is there, and does nothing.

    The stack itself says whether the mode is on it: what a hook pushes or pops during backward()
    is undone at its end, since autograd restores the modes that were there at its begin.
    """
    import torch

    depth = torch._C._len_torch_dispatch_stack()
    if on and depth == 0:
        torch._C._push_on_torch_dispatch_stack(_watch_class()())
    elif not on and depth == 1 and isinstance(_mode_at(0), _watch_class()):
        torch._C._pop_torch_dispatch_stack(None)


def _mode_at(number: int) -> Any:
    import torch

    return torch._C._get_dispatch_stack_at(number)


@functools.cache
def _watch_class() -> Any:
    from torch.utils._python_dispatch import TorchDispatchMode

    class AccessWatch(TorchDispatchMode):
        """Sees which memory the thread reads and writes while operations are in flight."""

        @classmethod
        def ignore_compile_internals(cls) -> bool:
            # Else torch.compile refuses to compile, or does without (torch 2.13).
            return True

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            recorder = this_rank.call_recorder()
            if recorder is not None and recorder.in_flight:
                _check_accesses(recorder, func, args, kwargs or {})
            return func(*args, **(kwargs or {}))

    return AccessWatch


def _check_accesses(recorder: CallRecorder, func: Any, args: Any, kwargs: Any) -> None:
    accesses = _accesses(func)
    if accesses is None:
        return
    for i, argument in enumerate(args):
        _check_argument(recorder, argument, accesses.get(i, False), func)
    for name, argument in kwargs.items():
        _check_argument(recorder, argument, accesses.get(name, False), func)


def _check_argument(recorder: CallRecorder, argument: Any, is_write: bool, func: Any) -> None:
    import torch

    if isinstance(argument, torch.Tensor):
        check_access(recorder, argument, is_write, func._schema.name.partition("::")[2])
    elif isinstance(argument, list | tuple):
        for item in argument:
            _check_argument(recorder, item, is_write, func)


# Operators that look only at the shape of a tensor, by the beginning or the end of their names:
# new_zeros, sym_size, is_pinned; rand_like.
_SHAPE_ONLY = ("new_", "sym_", "is_", "record_stream")
_SHAPE_ONLY_END = "_like"


@functools.cache
def _accesses(func: Any) -> dict[int | str, bool] | None:
    """Return which arguments an operator writes to; None if it touches no memory."""
    schema = func._schema
    namespace, _, name = schema.name.partition("::")
    if namespace in {"c10d", "_c10d_functional", "prim"} or name.startswith(_SHAPE_ONLY):
        return None
    if name.endswith(_SHAPE_ONLY_END):
        return None
    if func.is_view or name in {"detach", "alias", "lift_fresh", "set_", "resize_"}:
        return None
    writes: dict[int | str, bool] = {}
    for i, argument in enumerate(schema.arguments):
        alias = argument.alias_info
        if alias is not None and alias.is_write:
            writes[i] = writes[argument.name] = True
    return writes


def check_access(recorder: CallRecorder, tensor: Any, is_write: bool, op: str) -> None:
    """Report an access to a tensor's memory if an operation in flight uses it.

    Args:
        recorder: of the rank.
        tensor: the tensor.
        is_write: whether it is written.
        op: what accesses it.
    """
    region = region_of(tensor, True)
    if region is not None:
        recorder.touched(region, is_write, op)
