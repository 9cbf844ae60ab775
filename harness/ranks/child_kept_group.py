"""The process group that a rank keeps from one test to the next, under isolation "none"."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

# What it was made with, and the group.
_kept: tuple[object, Any] | None = None
_files: frozenset[str] = frozenset()


def take_or_make(key: object, make: Callable[[], None]) -> None:
    """Have a default process group that was made with `key`: the one that was kept, or a new one.

    Args:
        key: what the group depends on.
        make: brings up the default process group.
    """
    global _kept, _files
    import torch.distributed as dist

    if _is_up() and _kept is not None:
        _set_default(_kept[1])
        if _kept[0] == key:
            return
        dist.destroy_process_group()
    _kept = None
    before = dict(open_files())
    make()
    _files = frozenset(fd for fd, target in open_files() if before.get(fd) != target)
    _kept = (key, dist.distributed_c10d._get_default_group())


def hide() -> None:
    """A test begins: it has no process group until it asks for one.

    Else a test that forgets to would pass after others and fail alone.
    """
    if _is_up():
        _set_default(None)


def _set_default(group: Any) -> None:
    import torch.distributed as dist

    dist.distributed_c10d._update_default_pg(group)


def name() -> str | None:
    """The name of the group that is kept; None if there is none."""
    if _kept is None or not _is_up():
        return None
    import torch.distributed as dist

    return str(dist.distributed_c10d._world.pg_names[_kept[1]])


def files() -> frozenset[str]:
    """The descriptors, as text, that the group has opened."""
    return _files if _kept is not None and _is_up() else frozenset()


def open_files() -> Iterator[tuple[str, str]]:
    """The open descriptors of this process, and what they are of; none where it is not Linux."""
    try:
        descriptors = os.listdir("/proc/self/fd")
    except FileNotFoundError:
        return
    for fd in descriptors:
        with contextlib.suppress(OSError):  # closed meanwhile: the one that listed them, at least
            yield fd, os.readlink(f"/proc/self/fd/{fd}")


def destroy_others() -> None:
    """Destroy the default process group, and with it all others, unless it is the one to keep."""
    global _kept
    import torch.distributed as dist

    if not dist.is_available() or not dist.is_initialized():
        _kept = _kept if _is_up() else None
    elif not _is_up() or _kept is None or dist.group.WORLD is not _kept[1]:
        dist.destroy_process_group()  # of whatever group the test has made, and of all others
        _kept = None


def _is_up() -> bool:
    """Whether the group that was kept is still there, hidden or not."""
    if _kept is None:
        return False
    import torch.distributed as dist

    return _kept[1] in dist.distributed_c10d._world.pg_map
