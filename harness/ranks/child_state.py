"""What a test may leave behind in a rank that stays: noted before its body, compared after it.

A rank is handed to the next test only if nothing differs. What cannot be seen from here (attributes
of modules, caches in native code) is what isolation by process is for.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import glob
import logging
import os
import re
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from harness.diagnosis.snapshot import OWN_THREADS
from harness.model.clock import Deadline
from harness.ranks import child_kept_group, child_torch_state
from harness.ranks.descriptors import open_files

# Threads that have been told to end, and sockets that are being closed, need a moment for it.
_SETTLING_S = 0.5
_PAUSE_S = 0.002

# What importing a module may change by itself. If a test has imported something, a difference here
# may be the module's doing.
_OF_IMPORTS = frozenset(
    {"warnings filter", "logger", "exit handler", "signal handler", "open file", "hook"}
)

# Opened by libraries when they are first used, and kept: random numbers, the kernel's own devices.
_KEPT_FILES = ("/dev/", "anon_inode:", "/proc/", "/sys/")


class RankState:
    """The state of this process at one moment, by kind and name.

    Args:
        known: a state that this process has been in, and out of which only the harness has taken
            it since; what that changes is looked at anew, and nothing else.
    """

    def __init__(self, known: RankState | None = None) -> None:
        unchanged = known.parts if known is not None and known.is_of_now else {}
        self.parts: dict[str, Mapping[Any, Any]] = {
            kind: look() if kind in _SET_BY_US or kind not in unchanged else unchanged[kind]
            for kind, look in _LOOKS.items()
        }
        # After the looks: torch imports a module to tell its default device.
        self.modules: int = len(sys.modules)
        self._has_environment = False

    @property
    def is_of_now(self) -> bool:
        """Whether nothing has been imported since."""
        return self.modules == len(sys.modules)

    def take_environment(self) -> None:
        """Take the environment as it is now for how it was, unless that has been done."""
        if not self._has_environment:
            self.parts["environment variable"] = _environ()
        self._has_environment = True

    def differences(self) -> Differences:
        """What is different now."""
        found = self._against(RankState())
        give_up = Deadline.after(_SETTLING_S)
        while found.may_settle and not give_up.expired:
            gc.collect()  # a file or a process group may hang in a cycle
            time.sleep(_PAUSE_S)
            found = self._against(RankState())
        return found

    def _against(self, now: RankState) -> Differences:
        found = [
            (kind, text)
            for kind, before in {**self.parts, "process group": {}}.items()
            if before != now.parts[kind]
            for text in _changes(kind, before, now.parts[kind])
        ]
        return Differences(found, now.modules != self.modules)


class Differences:
    """What a test has left in its rank.

    Args:
        found: kind and description of each difference.
        has_imported: whether the test has imported modules.
    """

    def __init__(self, found: list[tuple[str, str]], has_imported: bool) -> None:
        self._found = found
        self._has_imported = has_imported

    def __bool__(self) -> bool:
        return bool(self._found)

    @property
    def may_settle(self) -> bool:
        """Whether some of it may go by itself in a moment."""
        return any(kind in _SETTLING for kind, _ in self._found)

    def told(self) -> list[str]:
        """Those that the test itself is certainly to blame for; of many of a kind the first few."""
        texts: dict[str, list[str]] = {}
        for kind, text in self._found:
            if not (self._has_imported and kind in _OF_IMPORTS):
                texts.setdefault(kind, []).append(text)
        return [text for kind, found in texts.items() for text in _first_few(kind, found)]


# What the harness brings about between two tests.
_SET_BY_US = frozenset({"environment variable", "the", "process group", "warnings filter"})
_SETTLING = frozenset({"thread", "process", "open file", "process group"})


def _first_few(kind: str, texts: list[str]) -> list[str]:
    more = len(texts) - _TOLD
    return texts if more <= 1 else [*texts[:_TOLD], f"{kind}: {more} more"]


def _changes(kind: str, before: Mapping[Any, Any], now: Mapping[Any, Any]) -> Iterator[str]:
    for key in {**before, **now}:
        old, new = before.get(key, _ABSENT), now.get(key, _ABSENT)
        if old == new:
            continue
        name = f"{kind} {key}" if isinstance(key, str) else kind
        if old is _ABSENT:
            yield f"{name} left behind" if new is True else f"{name}: {_short(new)} left behind"
        elif new is _ABSENT:
            yield f"{name} gone"
        else:
            yield f"{name} is {_short(new)}, was {_short(old)}"


_ABSENT = object()
_SHOWN = 80
_TOLD = 5


def _short(value: object) -> str:
    # Ranks that left the same at other addresses are told of together.
    text = value if isinstance(value, str) else re.sub(r"( at)? 0x[0-9a-f]+", "", repr(value))
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _environ() -> Mapping[str, str]:
    return dict(os.environ)


def _interpreter() -> Mapping[str, Any]:
    return {
        "working directory": _working_directory(),
        "sys.path": tuple(sys.path),
        "sys.argv": tuple(sys.argv),
        "sys.stdout": id(sys.stdout),
        "sys.stderr": id(sys.stderr),
        "recursion limit": sys.getrecursionlimit(),
        "garbage collection": gc.isenabled(),
        "trace function": sys.gettrace(),
        "profile function": sys.getprofile(),
        "umask": _umask(),
        "alarm": bool(signal.getitimer(signal.ITIMER_REAL)[0]),
        "blocked signals": tuple(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ()))),
    }


def _umask() -> str:
    mask = os.umask(0o077)
    os.umask(mask)
    return oct(mask)


def _working_directory() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return "(removed)"


def _hooks() -> Mapping[str, Any]:
    hook = sys.excepthook
    return {
        "sys.excepthook": sys.__excepthook__ if child_torch_state.is_own_hook(hook) else hook,
        "threading.excepthook": threading.excepthook,
        "sys.unraisablehook": sys.unraisablehook,
        "sys.breakpointhook": sys.breakpointhook,
    }


def _threads() -> Mapping[str, Any]:
    return {repr(t.name): True for t in threading.enumerate() if t.name not in OWN_THREADS}


def _processes() -> Mapping[str, Any]:
    """The children of this process, by the kernel's list."""
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


def _files() -> Mapping[str, Any]:
    kept = child_kept_group.files()
    found = {fd: target for fd, target in open_files() if fd not in kept}
    return {fd: path for fd, path in found.items() if not _is_kept(path)}


def _is_kept(path: str) -> bool:
    return path.startswith(_KEPT_FILES) and not path.startswith("/dev/shm/")


def _filters() -> Mapping[str, Any]:
    return {"s": tuple(warnings.filters)}


def _loggers() -> Mapping[str, Any]:
    found: dict[str, Any] = {"root": _logger(logging.root), "disable": logging.root.manager.disable}
    for name, logger in logging.root.manager.loggerDict.items():
        # A logger that was merely asked for is no change.
        if isinstance(logger, logging.Logger) and (
            logger.level
            or logger.handlers
            or logger.disabled
            or not logger.propagate
            or logger.filters
        ):
            found[repr(name)] = _logger(logger)
    return found


def _logger(logger: logging.Logger) -> tuple[Any, ...]:
    handlers = tuple(f"{type(h).__name__} {id(h):#x} {h.level}" for h in logger.handlers)
    return (logger.level, handlers, logger.disabled, logger.propagate, len(logger.filters))


def _signals() -> Mapping[str, Any]:
    return {number.name: signal.getsignal(number) for number in signal.Signals}


def _exit_handlers() -> Mapping[str, Any]:
    return {"s": atexit._ncallbacks()}


_LOOKS: dict[str, Callable[[], Mapping[Any, Any]]] = {
    "environment variable": _environ,
    "the": _interpreter,
    "hook": _hooks,
    "thread": _threads,
    "process": _processes,
    "open file": _files,
    "warnings filter": _filters,
    "logger": _loggers,
    "signal handler": _signals,
    "exit handler": _exit_handlers,
    "torch's": child_torch_state.switches,
    "process group": child_torch_state.groups,
}
