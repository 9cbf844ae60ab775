"""Provide worlds for tests: new ones, and ones that several tests reuse.

A test of any class may reuse a world if it needs the same number of ranks in the same surroundings,
and if every rank has verified that the last test left no state behind.
"""

from __future__ import annotations

import atexit
import functools
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from harness.diagnosis.words import count
from harness.model import settings
from harness.model.errors import WorldExitWarning
from harness.model.spec import LaunchSpec
from harness.ranks import folders
from harness.ranks.leftovers import LEAVING_S
from harness.ranks.stores import serve
from harness.ranks.world import TERM_GRACE_S, World

Start = Callable[[LaunchSpec], World]

# Idle ranks use no CPU, but each has some 100 MB of memory that is not shared with others. Suites
# usually alternate between few world sizes, for which four worlds are enough.
_MAX_IDLE_RANKS = 32
_MAX_IDLE_WORLDS = 4

# Variables that differ between tests; each rank applies them again for every test.
_OF_THE_TEST = frozenset({"TMPDIR", "PYTEST_CURRENT_TEST"})


def world_key(spec: LaunchSpec) -> object:
    """Return what must be equal for two tests to reuse one world."""
    shared = spec.surroundings
    environ = frozenset(item for item in shared.environ.items() if item[0] not in _OF_THE_TEST)
    nodes = (spec.node_sizes, spec.has_real_nodes)
    return (spec.world_size, nodes, spec.threads, shared.sys_path, shared.argv, environ)


@dataclass(frozen=True)
class Lease:
    """A world lent to one test.

    Attributes:
        world: its ranks.
        stays: whether the ranks may run other tests after this one.
        end: returns the world to the pool, in any state; the pool keeps it or ends it.
    """

    world: World
    stays: bool
    end: Callable[[], None]


# States of a reusable world, and what moves it on:
#
#   new    -> lent   `lease()` starts it for a test
#   lent   -> idle   `Lease.end()`, if all ranks wait, are clean, and may run another test
#   idle   -> lent   `lease()` for a test with the same `world_key()`
#   lent   -> ended  `Lease.end()`, in any other case (a rank died, state leaked, test limit)
#   idle   -> ended  a rank died meanwhile, too many idle ranks, or `WorldPool.close()`


class ReusableWorld:
    """Ranks that run several tests, or several examples, and the store of their process groups.

    Attributes:
        world: the ranks.
        key: its `world_key()`, by which a test finds it.
        store: the store of its process groups.
        tests: how many tests it has run, including the current one.
        last_test: the name of its last test.
    """

    def __init__(self, world: World, key: object, store: Any) -> None:
        self.world = world
        self.key = key
        self.store = store
        self.tests = 0
        self.last_test = ""

    @classmethod
    def start(cls, spec: LaunchSpec, start: Start, store_host: str) -> ReusableWorld:
        """Start a world for the test."""
        store = serve(host=store_host)
        folder = str(folders.new_test_folder("world"))
        try:
            world = start(spec.in_world(folder, store.port))
        except BaseException:
            folders.remove(folder)
            raise
        return cls(world, world_key(spec), store)

    @property
    def may_run_another(self) -> bool:
        world = self.world
        alive = len(world.living()) == len(world.handles)
        return (
            world.is_idle and world.is_clean and alive and self.tests < settings.WORLD_TESTS.value()
        )

    def end(self) -> None:
        """End the ranks; warn if idle ranks did not exit with 0, or left processes running."""
        if self.world.is_idle or self.world.awaits_example:
            odd = self.world.request_exit(settings.EXIT_TIMEOUT_S.value(), TERM_GRACE_S)
            left = self.world.end_leftovers(LEAVING_S)
            codes = [f"rank {h.rank} exited with code {h.exit_code}" for h in odd]
            self._warn([*codes, *map(str, left)])
        else:
            self.world.end(grace_s=0.0)
            self.world.end_leftovers()
        self.world.close()
        folders.remove(self.world.folder)

    def _warn(self, findings: list[str]) -> None:
        if findings:
            warnings.warn(
                f"{'; '.join(findings)} (a reused world, after {count(self.tests, 'test')}; the "
                f"last was {self.last_test})",
                WorldExitWarning,
                stacklevel=2,
            )


class WorldPool:
    """The reusable worlds of this process."""

    def __init__(self) -> None:
        self._idle: list[ReusableWorld] = []  # least recently used first
        self._lent: list[ReusableWorld] = []
        self.pid = os.getpid()

    def lease(
        self,
        spec: LaunchSpec,
        start: Start,
        store_host: str,
        folder: Callable[[], str],
    ) -> Lease:
        """Provide a world whose ranks run the test.

        Args:
            spec: the test, with an empty `world_folder`.
            start: starts a world for the spec.
            store_host: the address of this host at which reusable ranks find their store.
            folder: makes the folder of a world that runs only this test.
        """
        if spec.stays:
            reusable = self._reusable_world(spec, start, store_host)
            return Lease(reusable.world, True, functools.partial(self._take_back, reusable))
        if spec.has_examples:
            reusable = ReusableWorld.start(spec, start, store_host)
            return Lease(reusable.world, False, reusable.end)
        world = start(spec.in_world(folder()))
        return Lease(world, False, world.end_at_once)

    def _reusable_world(self, spec: LaunchSpec, start: Start, store_host: str) -> ReusableWorld:
        """Return an idle world with the right surroundings, or a new one."""
        reusable = self._take(world_key(spec))
        if reusable is None:
            reusable = ReusableWorld.start(spec, start, store_host)
            # atexit runs handlers in reverse order. Registered last, this one runs first, while the
            # fork servers still run: they deliver the exit codes of the ranks.
            atexit.unregister(self.close)
            atexit.register(self.close)
        else:
            reusable.world.run(spec.in_world(reusable.world.folder, reusable.store.port))
        reusable.tests += 1
        reusable.last_test = spec.test_id
        self._lent.append(reusable)
        return reusable

    def _take(self, key: object) -> ReusableWorld | None:
        # The most recently used world first: its memory is more likely to be in the caches, and
        # worlds that no test needs any more stay at the front, where they are ended first.
        for reusable in reversed(self._idle):
            if reusable.key == key:
                self._idle.remove(reusable)
                if reusable.may_run_another:
                    return reusable
                reusable.end()
        return None

    def _take_back(self, reusable: ReusableWorld) -> None:
        """Make the world of a finished test idle if it may run another; otherwise end it."""
        self._lent.remove(reusable)
        if not reusable.may_run_another:
            reusable.end()
            return
        self._idle.append(reusable)
        while len(self._idle) > 1 and self._is_too_much():
            self._idle.pop(0).end()

    def _is_too_much(self) -> bool:
        ranks = sum(len(reusable.world.handles) for reusable in self._idle)
        return ranks > _MAX_IDLE_RANKS or len(self._idle) > _MAX_IDLE_WORLDS

    def close(self) -> None:
        """End all worlds; do nothing in a fork, since the worlds belong to the parent."""
        if os.getpid() != self.pid:
            return
        for reusable in [*self._idle, *self._lent]:
            reusable.end()
        self._idle.clear()
        self._lent.clear()


def pool() -> WorldPool:
    """Return the pool of this process; a fork gets one of its own."""
    return _pool_of(os.getpid())


@functools.lru_cache(maxsize=1)
def _pool_of(pid: int) -> WorldPool:
    return WorldPool()
