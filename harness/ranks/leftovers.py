"""Find, report and end the processes that the ranks of a test have left running.

A process belongs to a world if one of these is true:
- It is in the process group of one of the ranks.
- Its environment contains a variable of the world, which programs inherit that a rank executes.
- It has mapped a file of the world. This finds forks of a rank: their /proc/PID/environ still has
  the environment of the fork server, whose forks may belong to several worlds.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import wait

import psutil

from harness.model.clock import Deadline
from harness.model.spec import WORLD_VARIABLE
from harness.model.temporarily import changed
from harness.ranks import folders
from harness.ranks.launch.fork_server import server_pids
from harness.ranks.launch.preload_plan import PLAN_VARIABLE

#: How long helper processes may take that exit by themselves once their rank has gone, such as
#: torch's shared-memory manager and multiprocessing's resource tracker.
LEAVING_S = 0.5
# How long the kernel may take to end a process after SIGKILL.
_REAP_S = 2.0
# During exec(), /proc shows no environment for a moment. On a busy machine it can last longer.
_EXEC_S = 0.1


@dataclass(frozen=True, slots=True)
class Leftover:
    """A process that a rank left running.

    Attributes:
        pid: its process id.
        command: its command line.
        rank: the rank whose process group it is in; None if it has left the group.
        host: the host on which it runs; empty for this one.
    """

    pid: int
    command: str
    rank: int | None
    host: str = ""

    def __str__(self) -> str:
        owner = "a rank" if self.rank is None else f"rank {self.rank}"
        where = f" on {self.host}" if self.host else ""
        return f"{owner} left process {self.pid}{where} running: {self.command}"


#: The process ids of the running ranks of all worlds; each rank leads a process group.
running_ranks: set[int] = set()


class LeftoverFinder:
    """Records which processes exist before a world starts, to find its leftovers afterwards.

    Args:
        world: the folder of the world's test, which identifies its processes.
    """

    def __init__(self, world: str) -> None:
        self._world = world
        self._before = frozenset(psutil.pids())

    def marked(self) -> contextlib.AbstractContextManager[None]:
        """Mark processes started inside the block, and their children, as this world's."""
        return changed(os.environ, {WORLD_VARIABLE: self._world})

    def end(self, pids_of_ranks: Mapping[int, int], grace_s: float) -> list[Leftover]:
        """End the processes that the ranks have left running, and return them.

        Args:
            pids_of_ranks: process id to rank, for ranks that have ended.
            grace_s: seconds in which the processes may end by themselves.

        Returns:
            the processes that did not end by themselves.
        """
        found = list(_find(pids_of_ranks, self._world, self._before))
        if not found:
            return []
        alive = _await_end(found, Deadline.after(grace_s))
        left = [Leftover(p.pid, _command(p), pids_of_ranks.get(_group(p.pid))) for p in alive]
        for process in alive:
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)
        _await_end(alive, Deadline.after(_REAP_S))
        return left


def _find(
    pids_of_ranks: Mapping[int, int], world: str, before: frozenset[int]
) -> Iterable[psutil.Process]:
    tracker: int = resource_tracker._resource_tracker._pid  # type: ignore[attr-defined]
    known = before | server_pids() | {tracker}
    others = running_ranks.difference(pids_of_ranks)
    for pid in psutil.pids():
        if pid in known or pid in pids_of_ranks or _group(pid) in others:
            continue
        try:
            process = psutil.Process(pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            if _group(pid) in pids_of_ranks or _belongs_to(process, world):
                yield process
        except psutil.Error:
            continue


def _await_end(processes: list[psutil.Process], deadline: Deadline) -> list[psutil.Process]:
    """Wait until the processes have ended; return those that have not.

    It uses pidfds if the kernel has them (Linux 5.3). psutil would wait until a process is reaped,
    and in many containers no init process reaps orphans.
    """
    if not hasattr(os, "pidfd_open"):
        return psutil.wait_procs(processes, deadline.remaining_s())[1]
    living = {fd: process for process in processes if (fd := _pidfd(process.pid)) is not None}
    waited = dict(living)
    while living and not deadline.expired:
        ended = set(wait(list(living), deadline.remaining_s()))
        living = {fd: process for fd, process in living.items() if fd not in ended}
    for fd in waited:
        os.close(fd)
    return list(living.values())


def _pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def _belongs_to(process: psutil.Process, world: str) -> bool:
    environ = _environ(process)
    session = os.path.dirname(world)
    plan = environ.get(PLAN_VARIABLE, "")
    if environ.get(WORLD_VARIABLE) == world or session in plan:
        return True
    return bool(plan) and process.ppid() != os.getppid() and _has_mapped(process.pid, world)


def _environ(process: psutil.Process) -> dict[str, str]:
    """Return the environment of a process; if it is empty, wait a moment for exec() to finish."""
    give_up = Deadline.after(_EXEC_S)
    while not (environ := process.environ()) and process.exe() and not give_up.expired:
        time.sleep(0.001)
    return environ


_MARK = "world"


def mark_forks(world: str) -> mmap.mmap:
    """Mark this rank, and every process forked from it, as part of its world.

    A shared mapping survives fork(), and /proc/PID/maps shows it to other processes.

    Returns:
        the mapping; the mark exists as long as this object.
    """
    with folders.making("the file that marks the processes of a test", world):
        fd = os.open(os.path.join(world, _MARK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(fd, 1)
        return mmap.mmap(fd, 1)
    finally:
        os.close(fd)


def _has_mapped(pid: int, world: str) -> bool:
    try:
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as maps:
            return any(os.path.join(world, _MARK) in line for line in maps)
    except OSError:
        return False


def _group(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return -1


def _command(process: psutil.Process) -> str:
    try:
        command = " ".join(process.cmdline()) or process.name()
    except psutil.Error:
        return "(gone)"
    # The command line of the fork server, which ranks and forks of ranks share.
    return "a fork of the rank" if "from multiprocessing." in command else command
