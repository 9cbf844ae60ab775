"""One leak of each kind that a rank which stays must notice; run as a script, it tries them all."""

from __future__ import annotations

import asyncio
import builtins
import contextvars
import copyreg
import decimal
import faulthandler
import gc
import json
import locale
import logging
import multiprocessing
import os
import resource
import signal
import socket
import sys
import threading
import time
import tracemalloc
import unittest
import warnings
from collections.abc import Callable
from unittest import mock

import numpy as np
import torch

from harness.ranks.child.state import RankState, probes
from suites.samples.leaks_torch import CPU, GROUPS, KEPT, TORCH_LEAKS, read_configuration

PROBES = probes(GROUPS)
VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("sample")


class Policy(asyncio.DefaultEventLoopPolicy):
    pass


def environ_of_time_zone() -> None:
    with mock.patch.dict(os.environ, TZ="JST-9"):
        time.tzset()


def within() -> None:
    """All of it is as it was at the end."""
    with np.errstate(all="raise"), mock.patch("os.getcwd"), torch.autocast(CPU):
        pass
    with decimal.localcontext() as context, warnings.catch_warnings():
        context.prec = 3
        warnings.simplefilter("ignore")
    with torch.profiler.profile():
        pass
    with mock.patch.dict(sys.modules, {"wave": None}):
        pass
    with torch.device("meta"), torch.inference_mode(), torch.random.fork_rng():
        torch.ones(2)
    torch.func.vmap(torch.sin)(torch.ones(2))
    with torch.autograd.graph.save_on_cpu():
        torch.ones(2, requires_grad=True).sin().sum().backward()


#: What is not noticed, since it is none.
NOTHING = ""

#: What is done, and what must be said of it.
LEAKS: dict[str, tuple[Callable[[], object], str]] = {
    **TORCH_LEAKS,
    "nice": (lambda: os.nice(1), "the nice value is "),
    "affinity": (
        lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}),
        "the processors to run on is (" if len(os.sched_getaffinity(0)) > 1 else NOTHING,
    ),
    "policy": (
        lambda: os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0)),
        "the scheduling policy is (5, 0)",
    ),
    "limit": (
        lambda: resource.setrlimit(
            resource.RLIMIT_NOFILE, (100, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        ),
        "the limit RLIMIT_NOFILE is (100, ",
    ),
    "session": (os.setsid, "the session of the system is "),
    "timer": (
        lambda: signal.setitimer(signal.ITIMER_PROF, 1000),
        "the profiling timer is True, was False",
    ),
    "wakeup": (
        lambda: KEPT.append(signal.set_wakeup_fd(nonblocking_pipe())),
        "the wakeup descriptor is ",
    ),
    "locale": (lambda: locale.setlocale(locale.LC_CTYPE, "C"), "the locale is "),
    "time zone": (environ_of_time_zone, "the time zone is (('JST', 'JST'), -32400)"),
    "displayhook": (lambda: setattr(sys, "displayhook", print), "hook sys.displayhook is "),
    "meta_path": (lambda: sys.meta_path.insert(0, Policy), "hook sys.meta_path is "),
    "path_hooks": (lambda: sys.path_hooks.append(print), "hook sys.path_hooks is "),
    "module replaced": (
        lambda: sys.modules.update(json=sys),
        "module json is <module 'sys' (built-in)>, was <module 'json'",
    ),
    "module removed": (lambda: sys.modules.pop("json"), "module json gone"),
    "module removed and imported": (
        lambda: (sys.modules.pop("json"), __import__("json")),
        "module json is <module 'json'",
    ),
    "built-in": (lambda: setattr(builtins, "left", 1), "built-in left: 1 left behind"),
    "built-in changed": (lambda: setattr(builtins, "bin", oct), "built-in bin is "),
    "switch interval": (lambda: sys.setswitchinterval(1), "the switch interval is 1.0"),
    "recursion limit": (lambda: sys.setrecursionlimit(9999), "the recursion limit is 9999"),
    "int digits": (lambda: sys.set_int_max_str_digits(0), "the limit on digits of int is 0"),
    "dlopen": (lambda: sys.setdlopenflags(os.RTLD_LAZY), "the flags of dlopen is 1"),
    "socket": (lambda: socket.setdefaulttimeout(1), "the default timeout of sockets is 1.0"),
    "decimal": (lambda: setattr(decimal.getcontext(), "prec", 3), "the decimal context is (3,"),
    "numpy errors": (lambda: np.seterr(all="raise"), "the NumPy error state is "),
    "numpy printing": (lambda: np.set_printoptions(precision=1), "the NumPy print options is "),
    "context variable": (lambda: VARIABLE.set("x"), "context variable 'sample': 'x' left behind"),
    "thread trace": (lambda: threading.settrace(print), "the trace function of threads is "),
    "stack size": (lambda: threading.stack_size(1 << 20), "the stack size of threads is 1048576"),
    "gc threshold": (lambda: gc.set_threshold(1000), "the garbage collection threshold is (1000"),
    "gc callback": (lambda: gc.callbacks.append(print), "hook gc.callbacks is "),
    "gc debug": (
        lambda: gc.set_debug(gc.DEBUG_UNCOLLECTABLE),
        "the garbage collection debugging is 4",
    ),
    "fault handler": (faulthandler.enable, "the fault handler is True, was False"),
    "memory": (tracemalloc.start, "the tracing of memory is True"),
    "loops": (lambda: asyncio.set_event_loop_policy(Policy()), "the event loop policy is <"),
    "copyreg": (lambda: copyreg.pickle(Policy, print), "number of reducers of copyreg is "),
    "showwarning": (
        lambda: setattr(warnings, "showwarning", print),
        "hook warnings.showwarning is ",
    ),
    "logger class": (
        lambda: logging.setLoggerClass(type("L", (logging.Logger,), {})),
        "hook logging.getLoggerClass is ",
    ),
    "unittest": (lambda: setattr(unittest.TestCase, "maxDiff", 1), "unittest.TestCase.maxDiff is"),
    "mock": (lambda: mock.patch("os.getcwd").start(), "mock patch of 'getcwd' left behind"),
    "mock of a dict": (
        lambda: mock.patch.dict({}, a=1).start(),
        "mock patch of 'a dict' left behind",
    ),
    "start method": (
        lambda: multiprocessing.set_start_method("spawn", force=True),
        "the start method is spawn",
    ),
    # What is no leak.
    "nothing": (lambda: None, NOTHING),
    "default start method": (multiprocessing.get_start_method, NOTHING),
    "default event loop": (lambda: asyncio.run(asyncio.sleep(0)), NOTHING),
    "inexact decimal": (lambda: decimal.Decimal(1) / decimal.Decimal(3), NOTHING),
    "put back": (within, NOTHING),
    "imported": (lambda: __import__("wave"), NOTHING),
    "setting that is read": (read_configuration, NOTHING),
}


def nonblocking_pipe() -> int:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    KEPT.append(reading)
    return writing


def tried(leave: Callable[[], object]) -> tuple[bool, list[str]]:
    """What a fork of this process says when it has done this: whether it differs, and how."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        before = RankState(PROBES)
        leave()
        left = before.differences()
        os.write(writing, json_of([bool(left), left.texts()]))
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        text = pipe.read()
    os.waitpid(pid, 0)
    return tuple(json.loads(text)) if text else (False, ["(it died)"])


def json_of(value: object, encoder: json.JSONEncoder = json.JSONEncoder()) -> bytes:  # noqa: B008
    """As JSON, even where the module has been exchanged."""
    return encoder.encode(value).encode()


if __name__ == "__main__":
    found = {name: tried(leave) for name, (leave, _) in LEAKS.items()}
    print(json.dumps(found))
