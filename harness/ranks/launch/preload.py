"""In the fork server, import what the ranks will need, then prove that forking is safe.

The standard library's fork server imports this module by name. Its forks find everything imported.
In a spawned process, the module imports nothing: no fork server has a plan for it.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import sys
import threading
import traceback
import warnings
import weakref
from collections.abc import Iterable, Iterator
from multiprocessing import process, spawn
from typing import Any

from harness.model import settings
from harness.model.communication import FULL
from harness.model.importing import imports_without_gc
from harness.model.module_sources import import_from
from harness.model.surroundings import Surroundings
from harness.ranks import c10d_calls, folders
from harness.ranks.launch import open_files
from harness.ranks.launch.import_effects import ImportEffects
from harness.ranks.launch.preload_plan import PLAN_VARIABLE, PreloadPlan, PreloadReport
from harness.ranks.process_exit import flush_output, leave_if_fork_of

# OpenBLAS and OpenMP start a thread for each core when they are loaded, and a process with threads
# must not be forked. They read the C library's environment, which os.putenv() changes. Test modules
# read os.environ, which keeps the user's values.
_QUIET = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
# A process that has initialized CUDA must not be forked. torch.cuda.device_count(), which test
# modules call, initializes it unless this variable in os.environ selects NVML (torch 2.13).
_NVML_CHECK = "PYTORCH_NVML_BASED_CUDA_CHECK"


class _Server:
    """The fork server that this process is, or is a fork of.

    Args:
        plan: what it imports.

    Attributes:
        errors: by module, why it could not be imported, as a traceback.
        filters: by module, the filters of warnings that importing it has added.
        effects: what the imports have done to the process.
    """

    def __init__(self, plan: PreloadPlan) -> None:
        self.plan = plan
        self.errors: dict[str, str] = {}
        self.filters: dict[str, tuple[Any, ...]] = {}
        self.effects: ImportEffects | None = None

    def run(self, answer_to: str) -> None:
        """Import what the plan says, and write the report to the pipe at `answer_to`."""
        plan = self.plan
        if plan.pythonpath is None:
            os.environ.pop("PYTHONPATH", None)
        else:
            os.environ["PYTHONPATH"] = plan.pythonpath
        # If the parent is killed, the server is the last process: it removes the session's folders.
        atexit.register(_remove_session, os.getpid(), os.getppid(), plan.session)
        # Open from the start, so that the parent sees the end of the pipe if an import crashes.
        # Without waiting for a reader: the parent has opened the pipe, unless it has ended.
        fd = os.open(answer_to, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.set_blocking(fd, True)
        with open(fd, "w", encoding="utf-8") as pipe:
            pipe.write(self._preload().to_text())

    def _preload(self) -> PreloadReport:
        """Import the plan's modules and say whether this process may be forked."""
        sys.path[:] = self.plan.sys_path
        sys.argv[:] = self.plan.argv
        started_with = open_files.files_in_use()
        unsafe = ""
        with _quietly(), imports_without_gc():
            before = Surroundings.now()
            for module in ("__main__", *self.plan.modules):
                self._import(module)
                unsafe = unsafe or _why_unsafe(module)
            self.effects = ImportEffects(before, Surroundings.now())
        if "torch.distributed" in sys.modules and settings.AUDIT.value() == FULL:
            c10d_calls.install()  # milliseconds that no rank has to spend
        _keep_finalizers_to_this_process()
        # Otherwise every rank would inherit the buffers and write their contents again.
        flush_output()
        open_files.record(started_with)
        return PreloadReport(unsafe, self.errors, frozenset(sys.modules))

    def _import(self, module: str) -> None:
        server, filters = os.getpid(), tuple(warnings.filters)
        try:
            if module == "__main__":
                _import_main(self.plan)
            else:
                import_from(module, self.plan.sources)
        except BaseException:
            self.errors[module] = traceback.format_exc()
        leave_if_fork_of(server, 1 if self.errors else 0)
        self.filters[module] = tuple(item for item in warnings.filters if item not in filters)


def error_of(module: str) -> str:
    """Return why this fork server could not import a module, as a traceback; empty if it could."""
    return "" if _server is None else _server.errors.get(module, "")


def filters_of(module: str) -> tuple[Any, ...]:
    """Return the filters of warnings that this fork server got by importing a module."""
    return () if _server is None else _server.filters.get(module, ())


def plan_of_this_server() -> PreloadPlan | None:
    """Return what the fork server of this process has imported; None if there is no server."""
    return None if _server is None else _server.plan


def with_import_effects(surroundings: Surroundings) -> Surroundings:
    """Return the surroundings with the changes that the fork server's imports have made."""
    effects = None if _server is None else _server.effects
    return surroundings if effects is None else effects.applied_to(surroundings)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep libraries from starting threads and CUDA inside the block."""
    for name in _QUIET:
        os.putenv(name, "1")
    nvml_check = os.environ.get(_NVML_CHECK)
    os.environ[_NVML_CHECK] = "1"
    try:
        yield
    finally:
        if nvml_check is None:
            os.environ.pop(_NVML_CHECK, None)
        else:
            os.environ[_NVML_CHECK] = nvml_check
        for name in _QUIET:
            if name in os.environ:
                os.putenv(name, os.environ[name])
            else:
                os.unsetenv(name)


def _import_main(plan: PreloadPlan) -> None:
    """Run the parent's main module as `__mp_main__`, as multiprocessing does in a child."""
    if plan.main_path is None and plan.main_name is None:
        return
    data = {"init_main_from_path": plan.main_path, "init_main_from_name": plan.main_name}
    current = process.current_process()
    current._inheriting = True  # type: ignore[attr-defined]
    try:
        spawn.prepare({key: value for key, value in data.items() if value})
    finally:
        del current._inheriting  # type: ignore[attr-defined]


def _why_unsafe(module: str) -> str:
    threads = _thread_count()
    if threads > 1:
        named = [t.name for t in threading.enumerate() if t is not threading.main_thread()]
        who = f" ({', '.join(named)})" if named else ""
        return f"importing {module} started {threads - 1} thread(s){who}"
    torch = sys.modules.get("torch")
    cuda = getattr(torch, "cuda", None)  # missing in a torch that is too old or incomplete
    if cuda is not None and cuda.is_available() and _cuda_is_up(torch):
        return f"importing {module} initialized CUDA"
    return ""


def _thread_count() -> int:
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return threading.active_count()


def _cuda_is_up(torch: object) -> bool:
    """Whether CUDA would refuse to work in a fork of this process; only a fork can tell."""
    if torch.cuda.is_initialized():  # type: ignore[attr-defined]
        return True
    pid = os.fork()
    if pid == 0:
        os._exit(1 if torch.cuda._is_in_bad_fork() else 0)  # type: ignore[attr-defined]
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0


def _keep_finalizers_to_this_process() -> None:
    """Run the finalizers of imported modules once, when the server ends, not in each of its forks.

    torch alone has so many that they cost each rank 30 ms (torch 2.13). And a temp folder that a
    test module makes when it is imported must outlive the first rank.
    """
    pending = [f for f in weakref.finalize._registry if f.atexit]  # type: ignore[attr-defined]
    for finalizer in pending:
        finalizer.atexit = False
    server = os.getpid()

    def restore() -> None:
        for finalizer in pending if os.getpid() == server else ():
            finalizer.atexit = True

    atexit.register(restore)


def forget_exit_handlers_of_the_server() -> None:
    """In a fork, drop the exit handlers that were registered in the server before the fork."""
    if _server is None:
        return
    atexit._clear()
    atexit.register(logging.shutdown)
    atexit.register(weakref.finalize._exitfunc)  # type: ignore[attr-defined]


def _remove_session(pid: int, parent: int, session: Iterable[str]) -> None:
    if os.getpid() == pid and os.getppid() != parent:
        folders.remove_folders(session)


_server: _Server | None = None
if PLAN_VARIABLE in os.environ:
    _plan, _answer_to = PreloadPlan.from_text(os.environ.pop(PLAN_VARIABLE))
    _server = _Server(_plan)
    _server.run(_answer_to)
