"""Collect the part of a rank's state that Python, its standard library and NumPy keep."""

from __future__ import annotations

import asyncio
import atexit
import builtins
import contextvars
import copyreg
import decimal
import faulthandler
import gc
import locale
import logging
import multiprocessing
import os
import socket
import sys
import threading
import time
import unittest
import warnings
from collections.abc import Mapping
from multiprocessing.reduction import ForkingPickler
from typing import Any
from unittest import mock

from harness.ranks.child import torch_state

# The default start method. multiprocessing fixes it when the first process starts.
_START_METHOD = multiprocessing.get_all_start_methods()[0]


def environment() -> Mapping[bytes, bytes]:
    # The undecoded dict: decoding it would take a third of the time of all other checks.
    return dict(os.environ._data)  # type: ignore[attr-defined]


def set_for_each_test() -> Mapping[str, Any]:
    """Return what the harness itself sets before each test."""
    return {
        "working directory": _working_directory(),
        "sys.path": tuple(sys.path),
        "sys.argv": tuple(sys.argv),
        "sys.stdin": id(sys.stdin),
        "sys.stdout": id(sys.stdout),
        "sys.stderr": id(sys.stderr),
    }


def _working_directory() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return "(removed)"


def interpreter() -> Mapping[str, Any]:
    """Return the settings of the interpreter and the standard library."""
    return {
        "recursion limit": sys.getrecursionlimit(),
        "switch interval": sys.getswitchinterval(),
        "limit on digits of int": sys.get_int_max_str_digits(),
        "flags of dlopen": sys.getdlopenflags(),
        "asynchronous generator hooks": tuple(sys.get_asyncgen_hooks()),
        "coroutine origin tracking": sys.get_coroutine_origin_tracking_depth(),
        "writing of bytecode": not sys.dont_write_bytecode,
        "garbage collection": gc.isenabled(),
        "garbage collection threshold": gc.get_threshold(),
        "garbage collection debugging": gc.get_debug(),
        "trace function": sys.gettrace(),
        "profile function": sys.getprofile(),
        "trace function of threads": threading.gettrace(),
        "profile function of threads": threading.getprofile(),
        "monitoring tools": _monitoring_tools(),
        "tracing of memory": _is_tracing_memory(),
        "fault handler": faulthandler.is_enabled(),
        "stack size of threads": threading.stack_size(),
        "default timeout of sockets": socket.getdefaulttimeout(),
        "time zone": (time.tzname, time.timezone),
        "locale": locale.setlocale(locale.LC_ALL),
        "start method": multiprocessing.get_start_method(allow_none=True) or _START_METHOD,
        "event loop policy": _event_loop_policy(),
        "decimal context": _decimal_context(),
        "unittest.TestCase.maxDiff": unittest.TestCase.maxDiff,
        "unittest.TestCase.longMessage": unittest.TestCase.longMessage,
        **_numpy(),
    }


def _monitoring_tools() -> tuple[str | None, ...]:
    monitoring = getattr(sys, "monitoring", None)  # since Python 3.12
    return tuple(map(monitoring.get_tool, range(6))) if monitoring is not None else ()


def _is_tracing_memory() -> bool:
    tracemalloc = sys.modules.get("tracemalloc")
    return tracemalloc is not None and tracemalloc.is_tracing()


def _event_loop_policy() -> object:
    # asyncio's getter would create the default policy, with a DeprecationWarning since 3.14.
    policy = getattr(asyncio.events, "_event_loop_policy", None)
    default = getattr(asyncio, "_DefaultEventLoopPolicy", None) or asyncio.DefaultEventLoopPolicy
    return None if type(policy) is default else policy


def _decimal_context() -> tuple[Any, ...]:
    c = decimal.getcontext()
    # Without the flags, which every inexact result sets.
    traps = tuple(signal for signal, is_on in c.traps.items() if is_on)
    return (c.prec, c.rounding, c.Emin, c.Emax, c.capitals, c.clamp, traps)


def _numpy() -> Mapping[str, Any]:
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return {}
    return {
        "NumPy error state": numpy.geterr(),
        "NumPy error function": numpy.geterrcall(),
        "NumPy print options": numpy.get_printoptions(),
    }


def hooks() -> Mapping[str, Any]:
    hook = sys.excepthook
    return {
        "sys.excepthook": sys.__excepthook__ if torch_state.is_own_hook(hook) else hook,
        "sys.displayhook": sys.displayhook,
        "sys.unraisablehook": sys.unraisablehook,
        "sys.breakpointhook": sys.breakpointhook,
        "sys.meta_path": tuple(sys.meta_path),
        "sys.path_hooks": tuple(sys.path_hooks),
        "threading.excepthook": threading.excepthook,
        "gc.callbacks": tuple(c for c in gc.callbacks if not _is_of_hypothesis(c)),
        "warnings.formatwarning": warnings.formatwarning,
        "logging.getLoggerClass": logging.getLoggerClass(),
        "logging.getLogRecordFactory": logging.getLogRecordFactory(),
    }


def warning_hooks() -> Mapping[str, Any]:
    return {"warnings.showwarning": warnings.showwarning}


def _is_of_hypothesis(callback: object) -> bool:
    # Hypothesis installs a gc callback in the first property test, and never removes it.
    return getattr(callback, "__module__", "").startswith("hypothesis.")


def built_ins() -> Mapping[str, Any]:
    """Return the built-in names, without `_`, which the interactive interpreter sets."""
    found = dict(vars(builtins))
    found.pop("_", None)
    return found


def registries() -> Mapping[str, int]:
    """Return how many entries registries have that importing a module may add to."""
    return {
        "reducers of copyreg": len(copyreg.dispatch_table),
        "reducers of multiprocessing": len(ForkingPickler._extra_reducers),  # type: ignore[attr-defined]
        **torch_state.registries(),
    }


class Same:
    """A value that is equal only to itself: the `==` of a user's object may do anything."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.value is other.value

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self.value)


def context_variables() -> Mapping[str, Any]:
    """Return the context variables that are set in the thread of the test.

    Without the decimal context, which Python creates at the first use, and without torch's
    settings, which `torch_state.configs` compares (torch 2.13 keeps them in such variables).
    """
    return {
        repr(variable.name): Same(value)
        for variable, value in contextvars.copy_context().items()
        if variable.name != "decimal_context" and not torch_state.is_config(variable)
    }


def patches() -> Mapping[str, bool]:
    """Return the patches of `unittest.mock` that are still active."""
    active = mock._patch._active_patches  # type: ignore[attr-defined]
    return {f"of {getattr(patch, 'attribute', 'a dict')!r}": True for patch in active}


def filters() -> Mapping[str, Any]:
    return {"s": tuple(warnings.filters)}


def exit_handlers() -> Mapping[str, Any]:
    return {"s": atexit._ncallbacks()}


def loggers() -> Mapping[str, Any]:
    found: dict[str, Any] = {
        "root": _logger(logging.root),
        "disable": logging.root.manager.disable,
        "raiseExceptions": logging.raiseExceptions,
    }
    found.update(
        (repr(name), _logger(logger))
        for name, logger in logging.root.manager.loggerDict.items()
        # getLogger() alone creates placeholders; those are no change.
        if isinstance(logger, logging.Logger)
        and (
            logger.level
            or logger.handlers
            or logger.disabled
            or not logger.propagate
            or logger.filters
        )
    )
    return found


def _logger(logger: logging.Logger) -> tuple[Any, ...]:
    handlers = tuple(f"{type(h).__name__} {id(h):#x} {h.level}" for h in logger.handlers)
    return (logger.level, handlers, logger.disabled, logger.propagate, len(logger.filters))
