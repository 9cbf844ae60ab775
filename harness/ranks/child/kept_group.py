"""Create, keep and destroy the process groups of a rank."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from harness.model import settings
from harness.model.spec import GROUP, NONE
from harness.ranks.child.gloo import GroupCloser
from harness.ranks.descriptors import open_files
from harness.ranks.rank_store import RankStore


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


class RankGroups:
    """The process groups of a rank.

    States of the kept group, under isolation "none". In torch, "default" means that
    `dist.group.WORLD` is set; "kept" is `_kept`.

        none      _kept is None
        in use    _kept is the default group; a test uses it        <- bring_up(), same key
        hidden    _kept exists, but there is no default group       <- hide(), before each test

        none -> in use     bring_up() makes a group and keeps it
        hidden -> none     bring_up() with another key destroys it and makes a new one
        any -> none        the test destroys it, or made another default group, or destroy_all()

    Args:
        store: the stores of the rank.
    """

    def __init__(self, store: RankStore) -> None:
        self._store = store
        self._closer = GroupCloser()
        self._kept: _KeptGroup | None = None
        # The descriptors, as text, that `_owner` has opened: the last default group made here.
        self._files: frozenset[str] = frozenset()
        self._owner: Any = None

    def begin_test(self, test_id: str, *, stays: bool) -> None:
        """Prepare for a test: hide the kept group until the test sets up its group.

        Otherwise a test that forgets to do so would pass after others, but fail alone.
        """
        self._closer.test_id = test_id
        if stays:
            self.hide()

    def hide(self) -> None:
        """Leave the kept group without a default group, until `bring_up`."""
        if self._group() is not None:
            _set_default(None)

    def bring_up(self, isolation: str, key: object, make: Callable[[], None]) -> None:
        """Set up the default process group: reuse the kept one if isolation and key allow it.

        Args:
            isolation: the isolation of the test.
            key: the arguments that the group depends on.
            make: creates the default process group.
        """
        keeps = isolation == NONE and settings.KEPT_GROUP in settings.TUNING.value()
        if keeps and self._take(key):
            return
        if isolation not in {GROUP, NONE}:
            make()
            return
        self._make(make)
        if keeps:
            self._keep(key)

    def _take(self, key: object) -> bool:
        """Make the kept group the default group; destroy it instead if its key differs."""
        group, kept = self._group(), self._kept
        if group is None or kept is None:
            return False
        _set_default(group)
        if kept.key == key:
            self._renew_sub_groups(kept)
            return True
        # No last reference may remain here: dropping it would block for 30 ms (see `gloo`).
        del group, kept
        self._destroy_default()
        return False

    def _renew_sub_groups(self, kept: _KeptGroup) -> None:
        """Reset torch's records, so that new sub-groups get names and stores as in a new process.

        torch names a sub-group by its ranks (`use_local_synchronization`) or by a counter, and
        finds its members by that name in the default group's store. There a group of the same name
        would find the addresses of one that an earlier test has made.
        """
        import torch.distributed as dist

        world = dist.distributed_c10d._world
        backend, _ = world.pg_map[kept.group]
        world.pg_map[kept.group] = (backend, self._store.part_of(kept.store))
        world.group_count = kept.numbered

    def _make(self, make: Callable[[], None]) -> None:
        """Create a group, and record the descriptors that it opens, since gloo does not list them.

        Other files that are opened meanwhile count as the group's.
        """
        before = dict(open_files())
        make()
        self._files = frozenset(fd for fd, target in open_files() if before.get(fd) != target)
        self._owner = _default()

    def _keep(self, key: object) -> None:
        import torch.distributed as dist

        world, group = dist.distributed_c10d._world, _default()
        _, store = world.pg_map[group]
        timeouts = _timeouts_of(group, store)
        self._kept = _KeptGroup(key, group, store, world.group_count, timeouts)

    def _group(self) -> Any:
        """Return the kept group if torch still has it, hidden or not; otherwise None."""
        if self._kept is None:
            return None
        import torch.distributed as dist

        return self._kept.group if self._kept.group in dist.distributed_c10d._world.pg_map else None

    # What a test leaves behind

    def files(self) -> frozenset[str]:
        """Return the descriptors, as text, of the kept group and of groups that are closing."""
        kept = frozenset() if self._group() is None else self._files
        return kept | self._closer.closing_files()

    def left(self) -> Mapping[str, Any]:
        """Return all process groups that are up, except the kept one, and the agent of RPC."""
        kept = self._group()
        found = {
            repr(name): f"of {group.size()} ranks"
            for name, group in _named_groups()
            if group is not kept
        }
        found.update(self._closer.unclosed())
        rpc = sys.modules.get("torch.distributed.rpc")
        if rpc is not None and rpc.is_available() and rpc._is_current_rpc_agent_set():
            found["of RPC"] = "still up"
        return found

    def left_or_changed(self) -> Mapping[str, Any]:
        """Return what `left` does, and timeouts of the kept group that a test has changed."""
        group, kept = self._group(), self._kept
        if group is None or kept is None:
            return self.left()
        now, before = _timeouts_of(group, kept.store), kept.timeouts
        name = next(name for name, each in _named_groups() if each is group)
        changed = {
            f"{name!r} ({owner})": f"timeout {now[owner]}, made with {before[owner]}"
            for owner in now
            if now[owner] != before[owner]
        }
        return {**self.left(), **changed}

    # The end of a test

    def destroy_others(self, *, exits: bool) -> None:
        """Destroy all process groups, unless the default group is the kept one.

        Args:
            exits: whether this process is about to exit.
        """
        import torch.distributed as dist

        kept = self._group()
        if not dist.is_available() or not dist.is_initialized():
            if kept is None:
                self._let_go()  # the test has destroyed it
        elif dist.group.WORLD is kept:
            return
        elif exits:
            self._closer.destroy_before_exit()
        else:
            self._destroy_default()  # the test has made this group itself

    def destroy_sub_groups(self) -> None:
        """Destroy all process groups except the kept one, if that is the default group."""
        import torch.distributed as dist

        kept = self._group()
        if kept is None or dist.group.WORLD is not kept:
            return
        others = [group for group in dist.distributed_c10d._world.pg_map if group is not kept]
        if others:
            self._closer.destroy(others)

    def destroy_all(self) -> None:
        """Destroy all process groups, including the kept one."""
        import torch.distributed as dist

        group = self._group()
        if group is not None and not dist.is_initialized():
            _set_default(group)
        del group
        if dist.is_available() and dist.is_initialized():
            self._destroy_default()

    def _destroy_default(self) -> None:
        """Destroy the default process group, and all others."""
        import torch.distributed as dist

        files = self._files if dist.group.WORLD is self._owner else frozenset()
        self._let_go()
        self._closer.destroy(files=files)

    def _let_go(self) -> None:
        """Drop all references to groups, so that their sockets close once they are destroyed."""
        self._kept, self._owner, self._files = None, None, frozenset()


def positions() -> dict[str, int]:
    """Return how many collectives have been called on each process group, by its name."""
    found: dict[str, int] = {}
    for name, group in _named_groups():
        try:
            found[name] = group._get_sequence_number_for_group()
        except RuntimeError:  # a backend that does not count
            continue
    return found


def _named_groups() -> Iterator[tuple[str, Any]]:
    world = getattr(sys.modules.get("torch.distributed.distributed_c10d"), "_world", None)
    for group, name in list(world.pg_names.items()) if world else ():
        yield str(name), group


def _default() -> Any:
    import torch.distributed as dist

    return dist.distributed_c10d._get_default_group()


def _set_default(group: Any) -> None:
    import torch.distributed as dist

    dist.distributed_c10d._update_default_pg(group)


def _timeouts_of(group: Any, store: Any) -> dict[str, Any]:
    found = {"store": store.timeout}
    for device in group._device_types:
        options: Any = getattr(group._get_backend(device), "options", None)
        if hasattr(options, "_timeout"):
            found[device.type] = options._timeout
    return found
