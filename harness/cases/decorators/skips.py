"""The skip decorators, under PyTorch's names.

A condition is a pure function from the test case to the reason for skipping it, or None. The
decorator attaches it to the test function, so that the parent can evaluate it before it starts any
process. The decorated function evaluates it too, for classes without ranks.
"""

from __future__ import annotations

import functools
import os
import sys
import unittest
from collections.abc import Callable
from typing import Any, TypeVar

from harness.cases.decorators import flags
from harness.cases.decorators.devices import accelerator_count, backend_is_available
from harness.cases.decorators.sandcastle import skip_but_pass_in_sandcastle_if
from harness.diagnosis.words import count
from harness.model.decorator_arguments import require_arguments
from harness.model.marks import note_device_for_each_rank, note_devices
from harness.model.skips import TEST_SKIPS

__unittest = True  # unittest leaves the frames of such modules out of its tracebacks

T = TypeVar("T", bound=Callable[..., Any])
Condition = Callable[[Any], str | None]

_CONDITIONS = "__harness_skip_conditions__"
#: The attribute of a test with the number of ranks that it requires. The name is PyTorch's, since
#: its harness reads it too.
REQUIRED_WORLD_SIZE = "_required_world_size"

# PyTorch's number (torch 2.13, common_distributed.skip_if_small_worldsize).
_SMALL_WORLD = 8


def skip_unless_runnable(condition: Condition) -> Callable[[T], T]:
    """Return a decorator that skips a test whenever `condition` returns a reason."""

    def decorator(test: T) -> T:
        @functools.wraps(test)
        def checked(self: Any, *args: Any, **kwargs: Any) -> Any:
            reason = condition(self)
            if reason is not None:
                raise unittest.SkipTest(reason)
            return test(self, *args, **kwargs)

        # The outermost condition first: it is the one that a reader of the test sees first.
        setattr(checked, _CONDITIONS, (condition, *getattr(test, _CONDITIONS, ())))
        return checked  # type: ignore[return-value]

    return decorator


def skip_reason(test: Callable[..., Any], case: Any) -> str | None:
    """Return the first reason to skip a test from its conditions, the outermost decorator first.

    Args:
        test: the method or function.
        case: the test case that runs it.
    """
    for condition in getattr(test, _CONDITIONS, ()):
        reason: str | None = condition(case)
        if reason is not None:
            return reason
    return None


def requires_gloo() -> Callable[[T], T]:
    """Skip unless torch was built with gloo."""
    return _requires("gloo")


def requires_nccl() -> Callable[[T], T]:
    """Skip unless torch was built with NCCL."""
    return _requires("nccl")


def requires_ucc() -> Callable[[T], T]:
    """Skip unless torch was built with UCC."""
    return _requires("ucc")


def requires_mpi() -> Callable[[T], T]:
    """Skip unless torch was built with MPI."""
    return _requires("mpi")


def requires_xccl() -> Callable[[T], T]:
    """Skip unless torch was built with XCCL, Intel's backend for XPUs."""
    return _requires("xccl")


def _requires(backend: str) -> Callable[[T], T]:
    return skip_but_pass_in_sandcastle_if(
        not backend_is_available(backend), f"torch was built without the {backend} backend"
    )


def skip_if_win32() -> Callable[[T], T]:
    """Skip on Windows."""
    return skip_but_pass_in_sandcastle_if(sys.platform == "win32", "does not run on Windows")


def skip_if_lt_x_gpu(x: int, *, allow_cpu: bool = False) -> Callable[[T], T]:
    """Skip if there are fewer than x GPUs (or other accelerators).

    Args:
        x: how many the test needs.
        allow_cpu: run anyway on a machine without any accelerator.

    Raises:
        TypeError: if the decorator is written without an argument.
    """
    require_arguments(x, "@skip_if_lt_x_gpu(2)")

    def condition(case: Any) -> str | None:
        found = accelerator_count()
        if found >= x or (allow_cpu and found == 0 and not _has_accelerator_build()):
            return None
        return f"needs at least {count(x, 'GPU')}, this machine has {found}"

    return lambda test: note_devices(skip_unless_runnable(condition)(test), x)


def _has_accelerator_build() -> bool:
    return flags.TEST_CUDA or flags.TEST_HPU or flags.TEST_XPU


def nccl_skip_if_lt_x_gpu(backend: str, x: int) -> Callable[[T], T]:
    """Skip if the backend is NCCL and there are fewer than x GPUs; other backends always run."""
    if backend != "nccl":
        return lambda test: test
    return skip_if_lt_x_gpu(x)


def skip_if_no_gpu(func: T) -> T:
    """Skip unless every rank can have a GPU of its own."""

    def condition(case: Any) -> str | None:
        found = accelerator_count()
        if found == 0:
            return TEST_SKIPS["no_cuda"].message
        wanted = _world_size_of(case)
        if found < wanted:
            return f"needs a GPU for each of {wanted} ranks, this machine has {found}"
        return None

    return note_device_for_each_rank(skip_unless_runnable(condition)(func))


def skip_if_small_worldsize(func: T) -> T:
    """Skip if there are fewer than 8 ranks, unless the backend is MPI."""

    def condition(case: Any) -> str | None:
        size = _world_size_of(case)
        if _backend() == "mpi" or size >= _SMALL_WORLD:
            return None
        return f"needs at least {_SMALL_WORLD} ranks, the world size is {size}"

    return skip_unless_runnable(condition)(func)


def skip_if_odd_worldsize(func: T) -> T:
    """Skip if the number of ranks is odd, unless the backend is MPI."""

    def condition(case: Any) -> str | None:
        size = _world_size_of(case)
        if _backend() == "mpi" or size % 2 == 0:
            return None
        return f"needs an even number of ranks, the world size is {size}"

    return skip_unless_runnable(condition)(func)


def requires_world_size(n: int, *, allow_cpu: bool = False) -> Callable[[T], T]:
    """Run a test in a world of n ranks; skip if there are fewer than n GPUs.

    Args:
        n: the world size.
        allow_cpu: run anyway on a machine without any accelerator.

    Raises:
        TypeError: if the decorator is written without an argument.
    """
    require_arguments(n, "@requires_world_size(2)")

    def decorator(test: T) -> T:
        checked = skip_if_lt_x_gpu(n, allow_cpu=allow_cpu)(test)
        setattr(checked, REQUIRED_WORLD_SIZE, n)
        return checked

    return decorator


def get_required_world_size(obj: Any, default: int) -> int:
    """Return the world size that a decorator of the current test requires, or else the default."""
    name = getattr(obj, "_testMethodName", "")
    return getattr(getattr(obj, name, None), REQUIRED_WORLD_SIZE, default)


def _world_size_of(case: Any) -> int:
    if hasattr(case, "world_size"):
        return int(case.world_size)
    return int(os.environ.get("WORLD_SIZE", "1"))


def _backend() -> str:
    return os.environ.get("BACKEND", "")
