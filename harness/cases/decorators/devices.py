"""Query which devices and backends this machine has, without initializing any of them."""

from __future__ import annotations

import os

import torch
import torch.distributed as dist

from harness.cases.decorators import flags
from harness.model.spec import TORCHRUN_DEVICES_VARIABLE


def accelerator_count() -> int:
    """Return the number of GPUs (or Gaudis, or XPUs); under torchrun, of all its hosts."""
    on_all_hosts = os.environ.get(TORCHRUN_DEVICES_VARIABLE)
    if on_all_hosts:
        return int(on_all_hosts)
    # In PyTorch's order. A machine has one kind of accelerator.
    if flags.TEST_CUDA:
        return torch.cuda.device_count()
    if flags.TEST_HPU:
        return int(torch.hpu.device_count())  # type: ignore[attr-defined]
    if flags.TEST_XPU:
        return torch.xpu.device_count()
    return 0


def current_accelerator() -> torch.device | None:
    """Return the machine's type of accelerator, such as `cuda`; None if it has none.

    torch's function of this name returns the type that torch was built for: the CUDA build on PyPI
    returns `cuda` even without a GPU. Its argument `check_available` is missing in torch 2.6.
    """
    return torch.accelerator.current_accelerator() if torch.accelerator.device_count() else None


def device_count(device_type: str) -> int:
    """Return the number of devices of a type; the CPU counts as one."""
    if device_type == "cpu":
        return 1
    module = getattr(torch, device_type, None)
    if module is None or not module.is_available():
        return 0
    return int(module.device_count())


def backend_is_available(name: str) -> bool:
    """Whether this build of torch has the backend; False if it lacks torch.distributed."""
    if not dist.is_available():
        return False
    available = getattr(dist, f"is_{name}_available", None)
    return bool(available()) if available is not None else dist.is_backend_available(name)


def why_backend_cannot_run(name: str) -> str | None:
    """Return why this machine cannot run a process group with this backend; None if it can."""
    if not backend_is_available(name):
        return f"torch was built without the {name} backend"
    types = dist.Backend.backend_capability.get(name, ["cpu"])
    if not any(map(device_count, types)):
        return f"{name} needs a {' or '.join(types).upper()} device, this machine has none"
    return None
