"""The default process group of a rank that stays: brought up, kept for other tests, taken down."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from harness.model import settings
from harness.model.spec import GROUP, NONE
from harness.ranks.child import gloo
from harness.ranks.child import store as child_store
from harness.ranks.descriptors import open_files


class _KeptGroup(NamedTuple):
    """A group that is kept.

    Attributes:
        key: what it was made with.
        group: the group.
        store: on which torch has its sub-groups meet.
        numbered: how many groups torch had numbered when it was made.
        timeouts: of its backends and its store when it was made.
    """

    key: object
    group: Any
    store: Any
    numbered: int
    timeouts: dict[str, Any]


_kept: _KeptGroup | None = None
# The descriptors, as text, that the last default group has opened, and that group.
_files: frozenset[str] = frozenset()
_owner: Any = None


def bring_up(isolation: str, key: object, make: Callable[[], None]) -> None:
    """Have a default process group: under isolation "none" the kept one, if it was made alike.

    Args:
        isolation: the test's.
        key: what the group depends on.
        make: brings up the default process group.
    """
    keeps = isolation == NONE and settings.KEPT_GROUP in settings.TUNING.value()
    if keeps and _take(key):
        return
    if isolation not in {GROUP, NONE}:
        make()
        return
    _make(make)
    if keeps:
        _keep(key)


def _take(key: object) -> bool:
    """Make the kept group the default one; destroy it if it was made with something else."""
    group = _group()
    if group is None or _kept is None:
        return False
    _set_default(group)
    if _kept.key == key:
        _renew_sub_groups(_kept)
        return True
    del group  # the last reference would close it here, and take 30 ms
    _destroy_default()
    return False


def _renew_sub_groups(kept: _KeptGroup) -> None:
    """Have the sub-groups of this test named and stored as if there had been no test before.

    torch names a sub-group by its ranks (`use_local_synchronization`) or by a counter, and finds
    its members by that name in the default group's store. There a group of the same name would find
    the addresses of one that an earlier test has made.
    """
    import torch.distributed as dist

    world = dist.distributed_c10d._world
    backend, _ = world.pg_map[kept.group]
    world.pg_map[kept.group] = (backend, child_store.part_of(kept.store))
    world.group_count = kept.numbered


def _make(make: Callable[[], None]) -> None:
    """Bring up a group, and remember what it opens: gloo says nothing of its sockets."""
    global _files, _owner
    before = dict(open_files())
    make()
    _files = frozenset(fd for fd, target in open_files() if before.get(fd) != target)
    _owner = _default()


def _keep(key: object) -> None:
    global _kept
    import torch.distributed as dist

    world, group = dist.distributed_c10d._world, _default()
    _, store = world.pg_map[group]
    _kept = _KeptGroup(key, group, store, world.group_count, _timeouts_of(group, store))


def _default() -> Any:
    import torch.distributed as dist

    return dist.distributed_c10d._get_default_group()


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
    """The descriptors, as text, of the group that is kept, and of those that are being closed."""
    kept = frozenset() if _group() is None else _files
    return kept | gloo.closing_files()


def changed_timeouts() -> dict[str, str]:
    """Return the timeouts of the kept group that are not those it was made with, in words."""
    if _group() is None or _kept is None:
        return {}
    now, before = _timeouts_of(_kept.group, _kept.store), _kept.timeouts
    return {
        f"{name()!r} ({owner})": f"timeout {now[owner]}, made with {before[owner]}"
        for owner in now
        if now[owner] != before[owner]
    }


def _timeouts_of(group: Any, store: Any) -> dict[str, Any]:
    found = {"store": store.timeout}
    for device in group._device_types:
        options: Any = getattr(group._get_backend(device), "options", None)
        if hasattr(options, "_timeout"):
            found[device.type] = options._timeout
    return found


def destroy_others(*, exits: bool) -> None:
    """Destroy the default process group, and with it all others, unless it is the one to keep.

    Args:
        exits: whether this process is about to exit.
    """
    import torch.distributed as dist

    kept = _group()
    if not dist.is_available() or not dist.is_initialized():
        if kept is None:
            _let_go()  # the test has destroyed it
    elif dist.group.WORLD is kept:
        return
    elif exits:
        gloo.destroy_before_exit()
    else:
        _destroy_default()  # of whatever group the test has made, and of all others


def _destroy_default() -> None:
    """Destroy the default process group, and all others."""
    import torch.distributed as dist

    files = _files if dist.group.WORLD is _owner else frozenset()
    _let_go()
    gloo.destroy(files=files)


def _let_go() -> None:
    """Refer to no group any more, so that its sockets close once it is destroyed."""
    global _kept, _files, _owner
    _kept, _owner, _files = None, None, frozenset()


def destroy_sub_groups() -> None:
    """Destroy all process groups but the one that is kept, if it is the default one."""
    import torch.distributed as dist

    kept = _group()
    if kept is None or dist.group.WORLD is not kept:
        return
    others = [group for group in dist.distributed_c10d._world.pg_map if group is not kept]
    if others:
        gloo.destroy(others)


def destroy_all() -> None:
    """Destroy all process groups, the one that was kept among them."""
    import torch.distributed as dist

    group = _group()
    if group is not None and not dist.is_initialized():
        _set_default(group)
    if dist.is_available() and dist.is_initialized():
        _destroy_default()


def _group() -> Any:
    """The group that was kept if it is still there, hidden or not; else None."""
    if _kept is None:
        return None
    import torch.distributed as dist

    return _kept.group if _kept.group in dist.distributed_c10d._world.pg_map else None
