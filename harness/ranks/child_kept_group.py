"""The process group that a rank keeps from one test to the next, under isolation "none"."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.ranks import child_gloo
from harness.ranks.descriptors import open_files

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

    group = _group()
    if group is not None and _kept is not None:
        _set_default(group)
        if _kept[0] == key:
            return
        with child_gloo.awake():
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
    if _group() is not None:
        _set_default(None)


def _set_default(group: Any) -> None:
    import torch.distributed as dist

    dist.distributed_c10d._update_default_pg(group)


def name() -> str | None:
    """The name of the group that is kept; None if there is none."""
    group = _group()
    if group is None:
        return None
    import torch.distributed as dist

    return str(dist.distributed_c10d._world.pg_names[group])


def files() -> frozenset[str]:
    """The descriptors, as text, that the group has opened."""
    return frozenset() if _group() is None else _files


def destroy_others() -> None:
    """Destroy the default process group, and with it all others, unless it is the one to keep."""
    global _kept
    import torch.distributed as dist

    group = _group()
    if dist.is_available() and dist.is_initialized() and dist.group.WORLD is not group:
        with child_gloo.awake():
            dist.destroy_process_group()  # of whatever group the test has made, and of all others
        group = None
    if group is None:
        _kept = None  # to let go of its sockets


def destroy_sub_groups() -> None:
    """Destroy all process groups but the one that is kept, if it is the default one."""
    import torch.distributed as dist

    kept = _group()
    if kept is None or dist.group.WORLD is not kept:
        return
    others = [group for group in dist.distributed_c10d._world.pg_map if group is not kept]
    if others:
        with child_gloo.awake():
            for group in others:
                dist.destroy_process_group(group)


def destroy_all() -> None:
    """Destroy all process groups, the one that was kept among them."""
    global _kept
    import torch.distributed as dist

    child_gloo.forget_peers()
    group, _kept = _group(), None
    if group is not None and not dist.is_initialized():
        _set_default(group)
    if dist.is_available() and dist.is_initialized():
        with child_gloo.awake():
            dist.destroy_process_group()


def _group() -> Any:
    """The group that was kept if it is still there, hidden or not; else None."""
    if _kept is None:
        return None
    import torch.distributed as dist

    return _kept[1] if _kept[1] in dist.distributed_c10d._world.pg_map else None
