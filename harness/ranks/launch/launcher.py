"""Choose how the ranks of a test start.

They are forked from a preloaded server if that is proved safe, otherwise spawned, with a warning
that says why.
"""

from __future__ import annotations

import atexit
import functools
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from harness.model import settings
from harness.model.clock import Deadline
from harness.model.errors import RanksSpawnedWarning
from harness.model.module_sources import sources_of
from harness.model.surroundings import Surroundings
from harness.ranks import folders
from harness.ranks.launch.adopted_server import AdoptedServer
from harness.ranks.launch.fork_server import ForkServer
from harness.ranks.launch.preload_plan import (
    DROPIN_MODULE,
    READ_AT_LOADING,
    PreloadPlan,
    foreseen,
    import_time_environ,
    main_module,
)
from harness.ranks.launch.start_method import SpawnedProcess

#: Creates a process without starting it; arguments as for multiprocessing.Process.
ProcessFactory = Callable[..., Any]

# Seeding needs numpy.random, which NumPy 2 imports at its first use.
_BASE_MODULES = (
    "torch",
    "torch.distributed",
    "numpy.random",
    "harness.cases.classes",
    "harness.ranks.child.main",
)


# The servers of a launcher: at most one is in use (`_active`), and at most one is starting
# (`_coming`). Old ones (`_retired`) stay until the last of their processes has ended, since they
# deliver the exit codes.
#
#   none -> active          the first `_server()` or `prewarm()`
#   coming                  the plan has grown; `_prepare()` starts a server for all of it
#   coming -> active        `_switch()`: it is ready, or the test needs one of its modules
#   coming -> retired       it is not safe to fork: the modules that ranks reported are forgotten
#   active -> retired       a coming server replaces it, or it has died


class Launcher:
    """The fork servers of this process, and the modules that they must import."""

    def __init__(self) -> None:
        self._modules: dict[str, None] = {}
        self._learned: dict[str, None] = {}
        self._active: ForkServer | AdoptedServer | None = None
        self._coming: ForkServer | None = None
        self._retired: list[ForkServer | AdoptedServer] = []
        self._may_learn = True
        self._warned: set[str] = set()
        self._environ: dict[str, str] = {}
        self._with_ranks = True
        self._why_not_to_fork = ""
        #: If another process owns the server: called with the modules to preload.
        self.on_learned: Callable[[tuple[str, ...]], None] | None = None

    def adopt(self) -> None:
        """Use the server that has forked this process, as long as it has the modules."""
        self._active = AdoptedServer()

    def never_fork(self, reason: str) -> None:
        """Spawn all ranks from now on, since forking is not safe."""
        self._why_not_to_fork = reason

    def expect_no_ranks(self) -> None:
        """Leave torch out of the server: no test is expected to have ranks."""
        self._with_ranks = False

    def also_import(self, *modules: str) -> None:
        """Preload these modules of the harness, too."""
        self._modules.update(dict.fromkeys(modules))

    def need(self, modules: Iterable[str]) -> None:
        """Preload these modules before the next ranks start."""
        new = [m for m in modules if not m.startswith("harness.") and m not in self._modules]
        if new:
            self._modules.update(dict.fromkeys(new))
            # Modules may read the environment when they are imported, as they just were here. A
            # server that imports them later must see the same, not what tests have made of it.
            self._environ = dict(os.environ)

    def learn(self, modules: Iterable[str]) -> None:
        """Preload modules that ranks had to import themselves, in a server that takes over later.

        If one of them makes the server unsafe to fork, all of them are dropped.
        """
        if self.on_learned is not None:
            self.on_learned(tuple(modules))
        elif self._may_learn:
            self._learned.update(dict.fromkeys(modules))

    def not_imported_here(self) -> tuple[str, ...]:
        """Return the modules that a fork server imports and this process has not imported."""
        return tuple(name for name in self._plan().modules if name not in sys.modules)

    def prewarm(self) -> None:
        """Start the server with the modules known so far, without waiting for it."""
        if self._method() == "forkserver" and self._active is None:
            self._active = self._new_server(self._plan(learned=False))

    def advance(self) -> object:
        """Switch to a server with more modules if one is ready; return the server in use."""
        if self._method() == "forkserver" and self._active is not None and self._learned:
            self._server(Deadline.after(0.0))
        return self._active

    def why_not_to_fork(self, deadline: Deadline) -> str:
        """Return why processes must be spawned although the user wants forks; empty if not."""
        if self._method() == "spawn" or self._why_not_to_fork:
            return self._why_not_to_fork
        return self._server(deadline).report(deadline).unsafe

    def factory(self, deadline: Deadline) -> ProcessFactory:
        """Return what creates the processes of the next world."""
        if self._method() == "spawn":
            return self._spawn
        if self._why_not_to_fork:
            self._warn(self._why_not_to_fork)
            return self._spawn
        server = self._server(deadline)
        report = server.report(deadline)
        self._warn_of_broken(report.errors)
        if report.unsafe:
            self._warn(report.unsafe)
            return self._spawn
        return server.process

    def _method(self) -> str:
        return settings.START_METHOD.value()

    @property
    def _spawn(self) -> ProcessFactory:
        return SpawnedProcess

    def _plan(self, learned: bool = True) -> PreloadPlan:
        path, name = main_module() if "__main__" in self._modules else (None, None)
        extra = (*settings.PRELOAD.value(), *(self._learned if learned else ()))
        base = _BASE_MODULES if self._with_ranks else ()
        first = (DROPIN_MODULE,) if settings.DROPIN.value() else ()
        modules = dict.fromkeys((*first, *base, *foreseen(self._modules), *extra, *self._modules))
        here = Surroundings.now()
        return PreloadPlan(
            modules=tuple(module for module in modules if module != "__main__"),
            main_path=path,
            main_name=name,
            sys_path=here.sys_path,
            argv=here.argv,
            pythonpath=os.environ.get("PYTHONPATH"),
            session=folders.folders_to_remove(),
            environ=import_time_environ(),
            sources=tuple(
                dict.fromkeys(source for module in self._modules for source in sources_of(module))
            ),
        )

    def _new_server(self, plan: PreloadPlan) -> ForkServer:
        server = ForkServer(plan, self._environ_at_import())
        atexit.register(server.kill)
        return server

    def _environ_at_import(self) -> dict[str, str | None]:
        """Return the variables that have changed since `need`, with their values at that time."""
        if not self._environ:
            return {}
        return {
            name: self._environ.get(name)
            for name in {*self._environ, *os.environ}.difference(READ_AT_LOADING)
            if self._environ.get(name) != os.environ.get(name)
        }

    def _server(self, deadline: Deadline) -> ForkServer | AdoptedServer:
        """Return the server to fork from, after its report has arrived."""
        wanted = self._plan()
        if self._active is None or not self._active.alive:
            self._discard(self._active)
            # Without the learned modules, since one of them may make a server unsafe.
            self._active = self._new_server(self._plan(learned=False))
        self._active.report(deadline)
        if not self._active.covers(wanted):
            self._prepare(wanted)
            needed = self._plan(learned=False)
            self._switch(deadline, must=not self._active.covers(needed))
        return self._active

    def _prepare(self, wanted: PreloadPlan) -> None:
        """Start a server that covers the plan, unless one is starting already."""
        if self._coming is None or self._coming.plan != wanted:
            self._discard(self._coming)
            self._coming = self._new_server(wanted)

    def _switch(self, deadline: Deadline, must: bool) -> None:
        """Use the coming server from now on if it is ready; wait for it if `must`."""
        coming = self._coming
        if coming is None or not (must or coming.has_answered()):
            return
        self._coming = None
        if coming.report(deadline).unsafe and self._learned:
            # One of the learned modules is not safe to import before a fork. Ranks go on importing
            # them all.
            self._learned.clear()
            self._may_learn = False
            self._discard(coming)
        else:
            self._discard(self._active)
            self._active = coming

    def _discard(self, server: ForkServer | AdoptedServer | None) -> None:
        self._retired += [server] if server is not None else []
        for old in [old for old in self._retired if old.idle]:
            self._retired.remove(old)
            atexit.unregister(old.kill)
            old.kill()

    def _warn(self, unsafe: str) -> None:
        self._warn_once(
            f"{unsafe}, so ranks cannot be forked safely: they are spawned, which takes "
            "seconds a test. Move that work into a function, or set HARNESS_START_METHOD=spawn "
            "to silence this.",
            RanksSpawnedWarning,
        )

    def _warn_of_broken(self, errors: Mapping[str, str]) -> None:
        """Warn of modules in HARNESS_PRELOAD that cannot be imported.

        Importing a test module reports its own errors.
        """
        for name in settings.PRELOAD.value():
            if name in errors:
                why = errors[name].rstrip().splitlines()[-1]
                self._warn_once(
                    f"{settings.PRELOAD.env} names {name}, which the fork server cannot import "
                    f"({why}): correct it, or leave it out",
                    UserWarning,
                )

    def _warn_once(self, text: str, category: type[Warning]) -> None:
        if text not in self._warned:
            self._warned.add(text)
            warnings.warn(text, category, stacklevel=2)


def launcher() -> Launcher:
    """Return the launcher of this process; a fork gets one of its own."""
    return _launcher_of(os.getpid())


@functools.lru_cache(maxsize=1)
def _launcher_of(pid: int) -> Launcher:
    return Launcher()
