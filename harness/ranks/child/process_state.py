"""Collect the part of a rank's state that the kernel and the processor keep."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import contextlib
import fcntl
import glob
import os
import resource
import signal
import stat
import sys
import threading
from collections.abc import Mapping
from typing import Any

from harness.model.own_thread import is_own
from harness.ranks.descriptors import open_files

# Libraries open these at first use and keep them open (/dev/urandom, GPU devices): not a leak.
_KEPT_FILES = ("/dev/", "anon_inode:", "/proc/", "/sys/")

_SIGNALS = tuple((number.name, int(number)) for number in signal.Signals)
_TIMERS = {
    "alarm": signal.ITIMER_REAL,
    "virtual timer": signal.ITIMER_VIRTUAL,
    "profiling timer": signal.ITIMER_PROF,
}
_LIMITS = {
    f"limit RLIMIT_{name}": getattr(resource, f"RLIMIT_{name}")
    for name in ("AS", "CORE", "CPU", "DATA", "FSIZE", "MEMLOCK", "NOFILE", "NPROC", "STACK")
    if hasattr(resource, f"RLIMIT_{name}")
}
_SMALLEST = sys.float_info.min


def process() -> Mapping[str, Any]:
    """Return the rest of the kernel's state: what no other function here returns."""
    root = os.stat("/")
    return {
        "umask": _umask(),
        "root folder": (root.st_dev, root.st_ino),
        **{name: bool(signal.getitimer(timer)[0]) for name, timer in _TIMERS.items()},
        "blocked signals": tuple(sorted(_signal.pthread_sigmask(signal.SIG_BLOCK, ()))),
        "wakeup descriptor": _wakeup_descriptor(),
        "nice value": os.getpriority(os.PRIO_PROCESS, 0),
        "process group of the system": os.getpgrp(),
        "session of the system": os.getsid(0),
        "user and group": (os.getresuid(), os.getresgid(), tuple(os.getgroups())),
        **_scheduling(),
        **{name: resource.getrlimit(limit) for name, limit in _LIMITS.items()},
        **_arithmetic(),
    }


def _umask() -> str:
    mask = os.umask(0o077)
    os.umask(mask)
    return oct(mask)


def _wakeup_descriptor() -> int:
    # CPython has no getter: set_wakeup_fd() returns the previous descriptor.
    descriptor = signal.set_wakeup_fd(-1)
    if descriptor != -1:
        signal.set_wakeup_fd(descriptor)
    return descriptor


def _scheduling() -> Mapping[str, Any]:
    if not hasattr(os, "sched_getaffinity"):
        return {}
    return {
        "processors to run on": tuple(sorted(os.sched_getaffinity(0))),
        "scheduling policy": (os.sched_getscheduler(0), os.sched_getparam(0).sched_priority),
    }


def _arithmetic() -> Mapping[str, str]:
    """Return how the processor rounds, by computing: torch.set_flush_denormal() has no getter."""
    tiny = _SMALLEST
    return {
        "denormal numbers": "kept" if tiny / 2 else "flushed to zero",
        "rounding": "up" if 1 + tiny > 1 else "down" if 1 - tiny < 1 else "to nearest",
    }


def threads() -> Mapping[str, Any]:
    return {repr(t.name): True for t in threading.enumerate() if not is_own(t)}


def processes() -> Mapping[str, Any]:
    """Return the children of this process, by the kernel's list."""
    found: dict[str, Any] = {}
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return found
    for children in glob.iglob("/proc/self/task/*/children"):  # none where it is not Linux
        with contextlib.suppress(OSError), open(children) as file:  # the thread may have ended
            found.update((pid, _command(pid)) for pid in file.read().split())
    return found


def _command(pid: str) -> str:
    try:
        with open(f"/proc/{pid}/cmdline") as file:
            return file.read().replace("\0", " ").strip() or "(ended, not waited for)"
    except OSError:
        return "(gone)"


def files(ignored: frozenset[str]) -> Mapping[str, Any]:
    """Return the open files, except the ignored descriptors (as text)."""
    found = {fd: target for fd, target in open_files() if fd not in ignored}
    return {fd: path + _read_up_to(fd, path) for fd, path in found.items() if not _is_kept(path)}


def _is_kept(path: str) -> bool:
    return path.startswith(_KEPT_FILES) and not path.startswith("/dev/shm/")


def _read_up_to(descriptor: str, path: str) -> str:
    """Return the position of a read-only file, where the next test would continue."""
    if path[0] != "/":
        return ""
    fd = int(descriptor)
    with contextlib.suppress(OSError):  # closed since
        is_read_only = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
        if is_read_only and stat.S_ISREG(os.fstat(fd).st_mode):
            position = os.lseek(fd, 0, os.SEEK_CUR)
            return f", read up to {position}" if position else ""
    return ""


def signal_handlers() -> Mapping[str, Any]:
    # signal.getsignal() converts to enums, which takes ten times as long.
    return {name: _signal.getsignal(number) for name, number in _SIGNALS}
