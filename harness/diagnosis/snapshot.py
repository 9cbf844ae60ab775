"""Take a snapshot of a rank from inside: where its threads are, what its groups are doing.

It runs in a thread of the harness, whatever the main thread is doing, and reads the frames of other
threads while they run. So a snapshot may be wrong about a rank that moves; `deadlock` compares two.
It uses torch only if the test has imported it.
"""

from __future__ import annotations

import inspect
import linecache
import re
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any

from harness.diagnosis import recorder
from harness.diagnosis.sources import is_machinery, is_torch
from harness.diagnosis.waits import wait_of
from harness.model.clock import Deadline
from harness.model.evidence import Collective, Group, Snapshot, Stack, ThreadStack, Waiting
from harness.model.outcome import Place
from harness.model.own_thread import is_own
from harness.model.timeline import CollectiveSpan

# A recursion error has a thousand frames; a report shows the innermost ones of the user.
_MAX_FRAMES = 60


def take(since_ns: int = 0, *, with_frames: bool = True) -> Snapshot:
    """Return a snapshot of this process.

    Args:
        since_ns: leave out collectives that were issued before. With isolation "group" and "none",
            a process runs several tests, and torch's flight recorder still has those of earlier
            ones.
        with_frames: whether to include the Python frames that issued each collective, which takes
            most of the time.
    """
    frames = sys._current_frames()
    main = frames.get(threading.main_thread().ident or 0)
    return Snapshot(
        threads=tuple(_threads(frames)),
        collectives=recorder.collectives(since_ns, with_frames) if _distributed() else (),
        groups=_groups(),
        waiting=_waiting(main) if main is not None else None,
        cpu_s=time.process_time(),
        is_runnable=_is_runnable(threading.main_thread()),
    )


def _is_runnable(thread: threading.Thread) -> bool:
    """Whether a thread runs or waits for a CPU; False on systems without /proc."""
    try:
        with open(f"/proc/self/task/{thread.native_id}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "R"
    except (OSError, IndexError):
        return False


def take_brief(since_ns: int) -> Snapshot:
    """Return a snapshot of the main thread and its pending collectives only.

    Users who ask where every rank is get this one. It is cheap, as it may be taken often, while the
    test runs at full speed.

    Args:
        since_ns: leave out collectives that were issued before.
    """
    main = sys._current_frames().get(threading.main_thread().ident or 0)
    waiting = _waiting(main) if main is not None else None
    called = recorder.collectives(since_ns, False) if waiting and _distributed() else ()
    return Snapshot(
        threads=(ThreadStack("MainThread", _stack_of(main)),),
        collectives=tuple(call for call in called if call.pending),
        waiting=waiting,
    )


# gloo's threads wake the waiters of a collective before they record it as completed (torch 2.13).
# Usually that takes microseconds; on a busy machine, the thread may have to wait for a CPU.
_RECORDED_WITHIN_S, _POLL_S = 0.2, 0.001


def spans(since_ns: int, *, all_completed: bool = False) -> tuple[CollectiveSpan, ...]:
    """Return the last collectives that this process has issued, with their times.

    Args:
        since_ns: leave out collectives that were issued before.
        all_completed: whether all of them should have completed; then wait a moment for those that
            torch has not yet recorded as completed.
    """
    if not _distributed():
        return ()
    deadline = Deadline.after(_RECORDED_WITHIN_S if all_completed else 0.0)
    found = recorder.spans(since_ns)
    while any(span.pending for span in found) and not deadline.expired:
        time.sleep(_POLL_S)
        found = recorder.spans(since_ns)
    return found


def is_creating_a_group() -> bool:
    """Whether a thread of this process is in a function of torch that creates a process group."""
    c10d = sys.modules.get("torch.distributed.distributed_c10d")
    functions = [getattr(c10d, name, None) for name in _GROUP_CREATION]
    codes = {inspect.unwrap(function).__code__ for function in functions if callable(function)}
    for frame in sys._current_frames().values():
        inner: FrameType | None = frame
        while inner is not None:
            if inner.f_code in codes:
                return True
            inner = inner.f_back
    return False


def take_groups() -> Snapshot:
    """Return a snapshot of the process groups only; torch forgets them when they are destroyed."""
    return Snapshot(groups=_groups())


def take_of_thread(
    thread: threading.Thread, collectives: Sequence[Collective], waiting: Waiting | None
) -> Snapshot:
    """Return a snapshot of a thread rank.

    Args:
        thread: the thread.
        collectives: its last collectives, in the order in which it called them.
        waiting: the wait that it has registered (`waits.registered`); None if it does not wait.
    """
    frame = sys._current_frames().get(thread.ident or 0)
    stack = (ThreadStack(thread.name, _stack_of(frame)),) if frame is not None else ()
    return Snapshot(stack, tuple(collectives), waiting=waiting, is_runnable=_is_runnable(thread))


def take_of_main_thread() -> Snapshot:
    """Return a snapshot of the main thread of a process that runs tests, and is not a rank."""
    thread = threading.main_thread()
    frame = inner = sys._current_frames().get(thread.ident or 0)
    while inner is not None and inner.f_code.co_filename == threading.__file__:
        inner = inner.f_back
    # A wait that the user's code calls (`Event.wait()`) may be for anything: report none.
    is_in_torch = inner is not None and is_torch(inner.f_code.co_filename)
    waiting = _waiting(inner) if inner is not None and is_in_torch else None
    return Snapshot((ThreadStack(thread.name, _stack_of(frame)),), waiting=waiting)


def stack_of_caller() -> Stack:
    """Return the stack of the caller of the function that calls this one, innermost first."""
    return _stack_of(sys._getframe(2))


def _threads(frames: dict[int, FrameType]) -> Iterator[ThreadStack]:
    main = threading.main_thread()
    others = [t for t in threading.enumerate() if t is not main and not is_own(t)]
    for thread in (main, *others):
        frame = frames.get(thread.ident or 0)
        if frame is not None:
            yield ThreadStack(thread.name, _stack_of(frame))


def _stack_of(frame: FrameType | None) -> Stack:
    places: list[Place] = []
    while frame is not None and len(places) < _MAX_FRAMES:
        places.append(_place(frame))
        frame = frame.f_back
    return tuple(places)


def _place(frame: FrameType) -> Place:
    code = frame.f_code
    return Place(code.co_filename, _line_of(frame), code.co_name, code.co_firstlineno)


def _line_of(frame: FrameType) -> int:
    """Return the line that a frame executes.

    A frame of another thread can be between two lines; `f_lineno` is then None (CPython 3.11 and
    newer), and the function's first line has to do.
    """
    line: int | None = frame.f_lineno
    return frame.f_code.co_firstlineno if line is None else line


def _distributed() -> Any:
    """Return torch's distributed_c10d if it is imported and keeps process groups, else None."""
    c10d = sys.modules.get("torch.distributed.distributed_c10d")
    return c10d if c10d is not None and getattr(c10d, "_world", None) is not None else None


def _groups() -> dict[str, Group]:
    c10d = _distributed()
    if c10d is None:
        return {}
    world = c10d._world
    return {
        str(name): Group(
            tuple(sorted(world.pg_group_ranks.get(group, {}))),
            str(getattr(group, "group_desc", "")),
            _timeout_of(group),
        )
        for group, name in list(world.pg_names.items())
    }


def _timeout_of(group: Any) -> float | None:
    try:
        import torch

        options = group._get_backend(torch.device("cpu")).options
        return float(options._timeout.total_seconds())
    except (ImportError, AttributeError, RuntimeError):
        return None


# The functions of distributed_c10d that do nothing but wait for other ranks (torch 2.13). Others,
# such as monitored_barrier, may return by themselves, so a rank in them is not stuck. A function
# that is missing here costs the early detection of a deadlock, never a false one.
_COLLECTIVES = frozenset(
    {
        "_all_gather_base",
        "_reduce_scatter_base",
        "all_gather",
        "all_gather_coalesced",
        "all_gather_into_tensor",
        "all_gather_object",
        "all_gather_single",
        "all_reduce",
        "all_reduce_coalesced",
        "all_to_all",
        "all_to_all_single",
        "barrier",
        "broadcast",
        "broadcast_object_list",
        "gather",
        "gather_object",
        "reduce",
        "reduce_scatter",
        "reduce_scatter_single",
        "reduce_scatter_tensor",
        "scatter",
        "scatter_object_list",
    }
)
_RENDEZVOUS = frozenset({"init_process_group", "new_group"})
# The functions that connect the ranks of a new group, including those that DeviceMesh calls.
_GROUP_CREATION = ("init_process_group", "new_group", "split_group", "_new_process_group_helper")
# The Python frame of a rank while DDP's reducer, or a collective in a graph, waits in C++.
_BACKWARD = frozenset({"_engine_run_backward"})
# Functional collectives return at once; their result waits here.
_WAIT = frozenset({"wait_tensor"})
# `work.wait()`, but not `work.wait(timeout)`.
_PLAIN_WAIT = re.compile(r"\.wait\(\s*\)")


def _waiting(frame: FrameType) -> Waiting | None:
    """Return the call in which the main thread only waits for other ranks; None if in doubt."""
    registered = wait_of(threading.main_thread())
    if registered is not None:
        return registered
    run = list(_torch_frames(frame))
    if not run:
        # A `work.wait()` in the user's code is a C++ method, so the innermost Python frame is the
        # user's line. With arguments it may be a wait with a timeout that the test expects.
        line = linecache.getline(frame.f_code.co_filename, _line_of(frame))
        return Waiting("collective", "wait") if _PLAIN_WAIT.search(line) else None
    # Innermost first. A collective may call another one (all_gather_object calls all_gather), so
    # report the outermost function of torch: the one that the user called.
    for inner in run:
        name = inner.f_code.co_name
        if name in _COLLECTIVES or name in _BACKWARD or name in _WAIT:
            return Waiting("collective", run[-1].f_code.co_name if name not in _BACKWARD else name)
        if name in {"send", "recv"}:
            return Waiting(name, name, _peers(inner, name))
        if name in _RENDEZVOUS:
            return _rendezvous(inner)
    return None


def _torch_frames(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield torch's frames inside the user's innermost frame, innermost first."""
    while frame is not None and (is_torch(frame.f_code.co_filename) or _is_ours(frame)):
        if not _is_ours(frame):
            yield frame
        frame = frame.f_back


def _is_ours(frame: FrameType) -> bool:
    """Whether the harness owns a frame: it stands between torch's frames in groups of threads."""
    return is_machinery(frame.f_code.co_filename)


def _peers(frame: FrameType, name: str) -> tuple[int, ...]:
    # From the arguments of send() and recv(): `dst` and `src` are global ranks, `group_dst` and
    # `group_src` are ranks in the group (torch 2.13). recv() without either takes any message.
    side = "dst" if name == "send" else "src"
    peer = frame.f_locals.get(side)
    if peer is not None:
        return (int(peer),)
    in_group = frame.f_locals.get(f"group_{side}")
    if in_group is None:
        return ()
    c10d = _distributed()
    group = frame.f_locals.get("group")
    return (int(c10d.get_global_rank(group, in_group)) if group is not None else int(in_group),)


def _rendezvous(frame: FrameType) -> Waiting:
    timeout = frame.f_locals.get("timeout")
    seconds = float(timeout.total_seconds()) if timeout is not None else None
    ranks = frame.f_locals.get("ranks") or range(max(0, frame.f_locals.get("world_size", 0)))
    return Waiting("rendezvous", frame.f_code.co_name, tuple(int(r) for r in ranks), seconds)
