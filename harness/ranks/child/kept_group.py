"""Create, keep and destroy the default process group of a reused rank."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from harness.model import settings
from harness.model.spec import GROUP, NONE
from harness.ranks.child import gloo
from harness.ranks.child import store as child_store
from harness.ranks.descriptors import open_files

# States of the kept group, under isolation "none". In torch, "default" means that
# `dist.group.WORLD` is set; "kept" is `_kept`.
#
#   none      _kept is None
#   in use    _kept is the default group; a test uses it        <- bring_up(), same key
#   hidden    _kept exists, but there is no default group       <- hide(), before each test
#
#   none -> in use     bring_up() makes a group and keeps it
#   hidden -> none     bring_up() with another key destroys it and makes a new one
#   any -> none        the test destroys it, or made another default group, or destroy_all()


class _KeptGroup(NamedTuple):
    """A process group that several tests use.

    Attributes:
        key: the arguments that it was made with.
        group: the group.
        store: the store on which torch creates its sub-groups.
        numbered: torch's counter of groups when it was made.
        timeouts: the timeouts of its backends and its store when it was made.
    """

    key: object
    group: Any
    store: Any
    numbered: int
    timeouts: dict[str, Any]


_kept: _KeptGroup | None = None
# The descriptors, as text, that `_owner` has opened: the last default group made here.
_files: frozenset[str] = frozenset()
_owner: Any = None


def bring_up(isolation: str, key: object, make: Callable[[], None]) -> None:
    """Set up the default process group: reuse the kept one if isolation and key allow it.

    Args:
        isolation: the isolation of the test.
        key: the arguments that the group depends on.
        make: creates the default process group.
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
    """Make the kept group the default group; destroy it instead if its key differs."""
    group = _group()
    if group is None or _kept is None:
        return False
    _set_default(group)
    if _kept.key == key:
        _renew_sub_groups(_kept)
        return True
    del (
        group
    )  # so that no last reference remains here, whose drop would block for 30 ms (see `gloo`)
    _destroy_default()
    return False


def _renew_sub_groups(kept: _KeptGroup) -> None:
    """Reset torch's records, so that new sub-groups get names and stores as in a new process.

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
    """Create a group, and record the descriptors that it opens, since gloo does not list them."""
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
    """Hide the kept group from a test until the test sets up its group.

    Otherwise a test that forgets to do so would pass after others, but fail alone.
    """
    if _group() is not None:
        _set_default(None)


def _set_default(group: Any) -> None:
    import torch.distributed as dist

    dist.distributed_c10d._update_default_pg(group)


def name() -> str | None:
    """Return the name of the kept group; None if there is none."""
    group = _group()
    if group is None:
        return None
    import torch.distributed as dist

    return str(dist.distributed_c10d._world.pg_names[group])


def files() -> frozenset[str]:
    """Return the descriptors, as text, of the kept group and of groups that are being closed."""
    kept = frozenset() if _group() is None else _files
    return kept | gloo.closing_files()


def changed_timeouts() -> dict[str, str]:
    """Return, as text, the timeouts of the kept group that a test has changed."""
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
    """Destroy all process groups, unless the default group is the kept one.

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
        _destroy_default()  # the test has made this group itself


def _destroy_default() -> None:
    """Destroy the default process group, and all others."""
    import torch.distributed as dist

    files = _files if dist.group.WORLD is _owner else frozenset()
    _let_go()
    gloo.destroy(files=files)


def _let_go() -> None:
    """Drop all references to groups, so that their sockets close once they are destroyed."""
    global _kept, _files, _owner
    _kept, _owner, _files = None, None, frozenset()


def destroy_sub_groups() -> None:
    """Destroy all process groups except the kept one, if that is the default group."""
    import torch.distributed as dist

    kept = _group()
    if kept is None or dist.group.WORLD is not kept:
        return
    others = [group for group in dist.distributed_c10d._world.pg_map if group is not kept]
    if others:
        gloo.destroy(others)


def destroy_all() -> None:
    """Destroy all process groups, including the kept one."""
    import torch.distributed as dist

    group = _group()
    if group is not None and not dist.is_initialized():
        _set_default(group)
    if dist.is_available() and dist.is_initialized():
        _destroy_default()


def _group() -> Any:
    """Return the kept group if torch still has it, hidden or not; otherwise None."""
    if _kept is None:
        return None
    import torch.distributed as dist

    return _kept.group if _kept.group in dist.distributed_c10d._world.pg_map else None
