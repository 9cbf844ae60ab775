"""The worlds whose ranks stay between tests: kept, handed out, recycled, ended in bounded time.

A world is handed to any test that asks for the same number of ranks in the same surroundings,
whatever its class, and only after every rank has proved that the last test has left nothing.
"""

from __future__ import annotations

import atexit
import os
import warnings
from collections.abc import Callable
from typing import Any

from harness.diagnosis.words import count
from harness.model import settings
from harness.model.spec import LaunchSpec
from harness.ranks import folders
from harness.ranks.leftovers import LEAVING_S
from harness.ranks.torchrun.cluster import store_for_staying_worlds
from harness.ranks.watch.supervisor import TERM_GRACE_S
from harness.ranks.world import World

# Idle ranks cost memory only; how many may wait for a test of their size to come again.
_MAX_IDLE_RANKS = 32
_MAX_IDLE_WORLDS = 4

# What differs from test to test and is applied by each rank anew.
_OF_THE_TEST = frozenset({"TMPDIR", "PYTEST_CURRENT_TEST"})


class WorldExitWarning(UserWarning):
    """Ranks that stayed for several tests did not end as they should, or left something running."""


def surroundings(spec: LaunchSpec) -> object:
    """What must be the same for two tests to share a world."""
    environ = frozenset(item for item in spec.environ.items() if item[0] not in _OF_THE_TEST)
    nodes = (spec.node_sizes, spec.has_real_nodes)
    return (spec.world_size, nodes, spec.threads, spec.sys_path, spec.argv, environ)


class StayingWorld:
    """A world in the pool's hands.

    Attributes:
        world: the ranks.
        key: its surroundings, by which a test finds it.
        store: serves its process groups.
        tests: how many tests it has run, the present one included.
        last_test: the name of the last one.
    """

    def __init__(self, world: World, key: object, store: Any) -> None:
        self.world = world
        self.key = key
        self.store = store
        self.tests = 0
        self.last_test = ""

    @classmethod
    def start(cls, spec: LaunchSpec, new: Callable[[LaunchSpec], World]) -> StayingWorld:
        """A new world for the test; `new` starts it."""
        store = store_for_staying_worlds()
        folder = str(folders.new_test_folder("world"))
        try:
            world = new(spec.in_world(folder, store.port))
        except BaseException:
            folders.remove(folder)
            raise
        return cls(world, surroundings(spec), store)

    @property
    def may_run_another(self) -> bool:
        world = self.world
        alive = len(world.living()) == len(world.handles)
        return (
            world.is_idle and world.is_clean and alive and self.tests < settings.WORLD_TESTS.value()
        )

    def end(self) -> None:
        """End the ranks; says so if those that had nothing to do any more did not end well."""
        if self.world.is_idle or self.world.awaits_example:
            odd = self.world.dismiss(settings.EXIT_TIMEOUT_S.value(), TERM_GRACE_S)
            left = self.world.end_leftovers(LEAVING_S)
            codes = [f"rank {h.rank} ended with exit code {h.exit_code}" for h in odd]
            self._complain([*codes, *map(str, left)])
        else:
            self.world.end(grace_s=0.0)
            self.world.end_leftovers()
        self.world.close()
        folders.remove(self.world.folder)

    def _complain(self, findings: list[str]) -> None:
        if findings:
            warnings.warn(
                f"{'; '.join(findings)}: after {count(self.tests, 'test')}, the last of which was "
                f"{self.last_test}",
                WorldExitWarning,
                stacklevel=2,
            )


class WorldPool:
    """The worlds of this process whose ranks stay."""

    def __init__(self) -> None:
        self._idle: list[StayingWorld] = []  # the last one used is last
        self._lent: dict[int, StayingWorld] = {}
        self.pid = os.getpid()

    def world_for(self, spec: LaunchSpec, new: Callable[[LaunchSpec], World]) -> World:
        """Have a test run by a world that stays, one that waits or a new one.

        Args:
            spec: the test, with an empty `world_folder`.
            new: starts a world for the spec.
        """
        key = surroundings(spec)
        staying = self._take(key)
        if staying is None:
            staying = StayingWorld.start(spec, new)
            # Registered last, so run first at the exit: while there are still fork servers.
            atexit.unregister(self.close)
            atexit.register(self.close)
        else:
            staying.world.run(spec.in_world(staying.world.folder, staying.store.port))
        staying.tests += 1
        staying.last_test = spec.test_id
        self._lent[id(staying.world)] = staying
        return staying.world

    def _take(self, key: object) -> StayingWorld | None:
        for staying in reversed(self._idle):
            if staying.key == key:
                self._idle.remove(staying)
                if staying.may_run_another:
                    return staying
                staying.end()
        return None

    def take_back(self, world: World) -> None:
        """A test is over: keep its world if it may run another, else end it."""
        staying = self._lent.pop(id(world))
        if not staying.may_run_another:
            staying.end()
            return
        self._idle.append(staying)
        while len(self._idle) > 1 and self._is_too_much():
            self._idle.pop(0).end()

    def _is_too_much(self) -> bool:
        ranks = sum(len(staying.world.handles) for staying in self._idle)
        return ranks > _MAX_IDLE_RANKS or len(self._idle) > _MAX_IDLE_WORLDS

    def close(self) -> None:
        """End all worlds; in a fork of the process whose they are, nothing."""
        if os.getpid() != self.pid:
            return
        for staying in [*self._idle, *self._lent.values()]:
            staying.end()
        self._idle.clear()
        self._lent.clear()


_pool: WorldPool | None = None


def pool() -> WorldPool:
    """The pool of this process; a fork of the parent gets a new one of its own."""
    global _pool
    if _pool is None or _pool.pid != os.getpid():
        _pool = WorldPool()
    return _pool
