"""Skips that depend on the machine's accelerators, and helpers that assign GPUs to ranks.

Names and numbers are those of PyTorch's common_distributed (torch 2.13).
"""

from __future__ import annotations

import functools
import importlib.util
import os
import unittest
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch

from harness.cases.decorators import flags
from harness.cases.decorators.devices import accelerator_count, backend_is_available
from harness.cases.decorators.sandcastle import (
    skip_but_pass_in_sandcastle,
    skip_but_pass_in_sandcastle_if,
)
from harness.cases.decorators.skips import nccl_skip_if_lt_x_gpu, skip_unless_runnable
from harness.model.skips import TEST_SKIPS
from harness.model.temporarily import changed

T = TypeVar("T", bound=Callable[..., Any])

# The first version of NCCL that can remove ranks from a communicator.
_NCCL_WITH_SHRINK = (2, 27)


def at_least_x_gpu(x: int) -> bool:
    """Whether there are x GPUs (or other accelerators) or more."""
    return accelerator_count() >= max(1, x)


def require_n_gpus_for_nccl_backend(n: int, backend: str) -> Callable[[T], T]:
    """Skip if the backend is NCCL and there are fewer than n GPUs; other backends always run."""
    return nccl_skip_if_lt_x_gpu(backend, n)


def requires_accelerator_dist_backend(backends: Sequence[str] | None = None) -> Callable[[T], T]:
    """Skip unless one of these accelerator backends is available.

    Args:
        backends: some of "nccl", "xccl" and "hccl"; all of them by default.
    """
    wanted = ["nccl", "xccl", "hccl"] if backends is None else list(backends)
    return skip_but_pass_in_sandcastle_if(
        not any(_accelerator_backend(name) for name in wanted),
        f"none of the backends {', '.join(wanted)} is available",
    )


def _accelerator_backend(name: str) -> bool:
    if name == "hccl":
        return bool(flags.TEST_HPU)
    return name in {"nccl", "xccl"} and backend_is_available(name)


def requires_nccl_version(version: tuple[int, ...], msg: str) -> Callable[[T], T]:
    """Skip if NCCL is missing or older than `version`; without a GPU, the test runs.

    Args:
        version: such as (2, 27).
        msg: what the test needs this version for.
    """
    if not flags.TEST_CUDA:
        return lambda test: test
    if not backend_is_available("nccl"):
        return skip_but_pass_in_sandcastle("torch was built without the nccl backend")
    found = torch.cuda.nccl.version()
    return skip_but_pass_in_sandcastle_if(
        found < version,
        f"needs NCCL {_dotted(version)}, found {_dotted(found)}: {msg}",
    )


def requires_nccl_shrink() -> Callable[[T], T]:
    """Skip if NCCL is too old for `shrink_group`."""
    return requires_nccl_version(_NCCL_WITH_SHRINK, "shrink_group")


def requires_multicast_support() -> Callable[[T], T]:
    """Skip unless the first GPU supports multicast."""
    return skip_but_pass_in_sandcastle_if(
        not _has_multicast(), "needs GPUs with multicast, this machine has none"
    )


def _has_multicast() -> bool:
    if not torch.cuda.is_available():
        return False
    from torch._C._autograd import DeviceType
    from torch._C._distributed_c10d import _SymmetricMemory

    return bool(_SymmetricMemory.has_multicast_support(DeviceType.CUDA, 0))


def skip_if_rocm_multiprocess(func: T) -> T:
    """Skip on ROCm."""
    return unittest.skipIf(flags.TEST_WITH_ROCM, TEST_SKIPS["skipIfRocm"].message)(func)


def skip_if_rocm_arch_multiprocess(arch: tuple[str, ...]) -> Callable[[T], T]:
    """Skip on ROCm if the GPU has one of these architectures, such as "gfx942"."""
    found = _rocm_arch()
    return unittest.skipIf(found in arch, f"does not run on {found}")


def _rocm_arch() -> str:
    """Return the architecture of the first GPU; empty unless torch was built for ROCm."""
    if not flags.TEST_WITH_ROCM:
        return ""
    properties: Any = torch.cuda.get_device_properties(0)
    return str(properties.gcnArchName).split(":")[0]


def skip_if_rocm_ver_lessthan_multiprocess(
    version: tuple[int, ...] | None = None,
) -> Callable[[T], T]:
    """Skip on ROCm if it is older than this version; without a version, always skip on ROCm."""
    if not flags.TEST_WITH_ROCM:
        return lambda test: test
    if version is None:
        return unittest.skip(TEST_SKIPS["skipIfRocm"].message)
    found = _rocm_version()
    return unittest.skipIf(
        found < tuple(version), f"needs ROCm {_dotted(version)}, found {_dotted(found)}"
    )


def skip_if_rocm_ver_atleast_multiprocess(
    version: tuple[int, ...] | None = None,
) -> Callable[[T], T]:
    """Skip on ROCm if it is this version or newer; without a version, the test runs."""
    if not flags.TEST_WITH_ROCM or version is None:
        return lambda test: test
    found = _rocm_version()
    return unittest.skipIf(
        found >= tuple(version),
        f"needs a ROCm older than {_dotted(version)}, found {_dotted(found)}",
    )


def _rocm_version() -> tuple[int, ...]:
    """Return the version of ROCm; in builds that do not record it, the HIP runtime's version."""
    text = str(getattr(torch.version, "rocm", None) or torch.version.hip)
    return tuple(int(part) for part in text.split("-")[0].split("."))


def import_transformers_or_skip() -> Callable[[T], T]:
    """Skip unless the package transformers is installed."""

    def condition(case: Any) -> str | None:
        if importlib.util.find_spec("transformers") is None:
            return "the package transformers is not installed"
        return None

    return skip_unless_runnable(condition)


def requires_ddp_rank(device: str) -> bool:
    """Whether DistributedDataParallel needs `device_ids=[rank]` on this type of device."""
    return device in {"cuda", "xpu"}


def with_nccl_blocking_wait(func: T) -> T:
    """Decorator: set TORCH_NCCL_BLOCKING_WAIT and unset TORCH_NCCL_ASYNC_ERROR_HANDLING.

    Both variables are restored after the call.
    """

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with changed(os.environ, _NCCL_WAITS):
            return func(*args, **kwargs)

    return wrapper  # type: ignore[return-value]


_NCCL_WAITS = {"TORCH_NCCL_BLOCKING_WAIT": "1", "TORCH_NCCL_ASYNC_ERROR_HANDLING": None}


def init_multigpu_helper(world_size: int, backend: str) -> dict[int, list[int]]:
    """Return rank to the indices of the GPUs that it may use, equally many for each rank.

    As in PyTorch, this is one GPU per rank if there are enough, and none otherwise.

    Args:
        world_size: the number of ranks.
        backend: unused; PyTorch's signature has it.
    """
    count = accelerator_count()
    # As PyTorch: with more ranks than GPUs this is 0, and tests skip themselves.
    each = 1 if world_size <= count else count // world_size
    devices = range(count)
    return {rank: list(devices[rank * each : (rank + 1) * each]) for rank in range(world_size)}


def _dotted(version: Sequence[int]) -> str:
    return ".".join(map(str, version))
