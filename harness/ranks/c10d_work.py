"""See who waits for the operations of c10d, and the calls that reach no operator."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from harness.diagnosis.sources import HARNESS, is_torch
from harness.model.communication import WORLD, Call
from harness.ranks import this_rank
from harness.ranks.call_recorder import (
    CallRecorder,
    recorder_of_work,
    user_place,
)
from harness.ranks.tensor_watch import watch_tensors

_WAITS = (
    "wait",
    "synchronize",
    "get_future",
    "get_future_result",
    "result",
    "block_current_stream",
)
# These tell whether it has completed; only "yes" counts as having waited.
_LOOKS = ("is_completed", "is_success")


def wrap_methods(c10d: Any) -> None:
    """Wrap the methods of torch's classes in this process, for good."""
    for name in vars(c10d.ProcessGroup):
        if name in _RETURN_WORK:
            setattr(c10d.ProcessGroup, name, _following(getattr(c10d.ProcessGroup, name)))
    for owner, name, wrapped in wrapped_functions():
        setattr(owner, name, wrapped)


def wrapped_functions() -> Iterator[tuple[Any, str, Any]]:
    """Return what sees the waits, and the calls that reach no operator, as (owner, name, value)."""
    from torch._C._distributed_c10d import Work
    from torch.distributed import distributed_c10d

    for name in (*_WAITS, *_LOOKS):
        if hasattr(Work, name):
            yield Work, name, _waiting(getattr(Work, name), name in _LOOKS)
    for name, wrap in (
        ("_rank_not_in_group", _reporting_outsiders),
        ("_new_group_with_tag", _recording_groups),
    ):
        plain = getattr(distributed_c10d, name, None)
        if plain is not None:
            yield distributed_c10d, name, wrap(plain)


# The methods of ProcessGroup that return a Work (torch 2.13).
_RETURN_WORK = frozenset(
    {
        "_allgather_base",
        "_end_coalescing",
        "_reduce_scatter_base",
        "all_gather_single",
        "all_gather_single_coalesced",
        "all_to_all_single",
        "allgather",
        "allgather_coalesced",
        "allgather_into_tensor_coalesced",
        "allreduce",
        "allreduce_coalesced",
        "alltoall",
        "alltoall_base",
        "barrier",
        "broadcast",
        "gather",
        "recv",
        "recv_anysource",
        "reduce",
        "reduce_scatter",
        "reduce_scatter_single",
        "reduce_scatter_single_coalesced",
        "reduce_scatter_tensor_coalesced",
        "scatter",
        "send",
    }
)


def _following(plain: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(plain)
    def method(*args: Any, **kwargs: Any) -> Any:
        recorder = this_rank.call_recorder()
        if recorder is None:
            return plain(*args, **kwargs)
        recorder.forget_fresh()
        work = plain(*args, **kwargs)
        if work is not None:
            follow(recorder, work, sys._getframe(1))
        return work

    return method


def follow(recorder: CallRecorder, work: Any, caller: FrameType | None) -> None:
    """Follow the Work of what the calling thread has just issued, and watch its tensors.

    If it is for torch's own code, that code waits for it, often in C++, where no wait is seen; or
    knows that it need not, as `Join` does.

    Args:
        recorder: of the rank.
        work: what the operation returned.
        caller: the frame that called the method of the process group.
    """
    while caller is not None and _passes_on(caller.f_code.co_filename):
        caller = caller.f_back
    if caller is not None and is_torch(caller.f_code.co_filename):
        recorder.forget_fresh()
        return
    recorder.follow(work)
    watch_tensors(recorder.in_flight > 0)


# Between a method of a process group and the code that gets its Work: the functions of
# torch.distributed, their decorators, and context managers.
_PASSING_ON = (
    os.path.join("torch", "distributed", "distributed_c10d.py"),
    os.path.join("torch", "distributed", "c10d_logger.py"),
    contextlib.__file__,
    "typing_extensions.py",
)


@functools.lru_cache(maxsize=4096)
def _passes_on(filename: str) -> bool:
    return filename.endswith(_PASSING_ON) or filename.startswith(HARNESS)


def _waiting(plain: Callable[..., Any], only_looks: bool) -> Callable[..., Any]:
    @functools.wraps(plain)
    def method(work: Any, *args: Any, **kwargs: Any) -> Any:
        # Any thread may wait, also one that is no rank's.
        recorder = recorder_of_work(work)
        if recorder is None:
            return plain(work, *args, **kwargs)
        # Before it is over: to wait may be to copy the result into the tensors (gloo's
        # reduce_scatter_tensor, torch 2.13).
        position = -1 if only_looks else recorder.waited(work)
        try:
            result = plain(work, *args, **kwargs)
        except BaseException:
            recorder.raised(recorder.waited(work) if only_looks else position)
            raise
        if only_looks and result:
            recorder.waited(work)
        watch_tensors(recorder.in_flight > 0)
        return result

    return method


def _reporting_outsiders(plain: Callable[..., Any]) -> Callable[..., Any]:
    """Report collectives of a group that the rank is not a member of; torch only warns of them.

    torch's functions ask `_rank_not_in_group()`, and those that then do nothing call
    `_warn_not_in_group()` (torch 2.13). To wrap the latter would change the place of its warning.
    """

    @functools.wraps(plain)
    def is_outsider(*args: Any, **kwargs: Any) -> Any:
        result = plain(*args, **kwargs)
        recorder = this_rank.call_recorder() if result else None
        if recorder is not None:
            caller = sys._getframe(1)
            if "_warn_not_in_group" in caller.f_code.co_names:
                recorder.fault(
                    f"{caller.f_code.co_name} of a group that the rank is not a member of does "
                    "nothing",
                    where=user_place(caller),
                )
        return result

    return is_outsider


def _recording_groups(plain: Callable[..., Any]) -> Callable[..., Any]:
    from torch.distributed import distributed_c10d

    @functools.wraps(plain)
    def new_group(ranks: Any = None, *args: Any, **kwargs: Any) -> Any:
        recorder = this_rank.call_recorder()
        # With local synchronization, only the members call it.
        if recorder is None or kwargs.get("use_local_synchronization"):
            return plain(ranks, *args, **kwargs)
        default_group = distributed_c10d._world.default_pg
        recorder.in_world(default_group)
        if ranks is None and default_group is not None:
            ranks = list(range(default_group.size()))
        members = "all ranks" if ranks is None else f"ranks {sorted(ranks)}"
        place = user_place(sys._getframe(1))
        recorder.record(
            ("new_group", members, place),
            lambda: Call(WORLD, "new_group", detail=members, where=place),
        )
        return plain(ranks, *args, **kwargs)

    return new_group
