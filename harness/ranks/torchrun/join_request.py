"""Describe this process to rank 0 when it joins: where it is, and what it runs."""

from __future__ import annotations

import glob
import os
import socket
from pathlib import Path

from harness.model.torchrun_environ import TorchrunPlace
from harness.ranks.torchrun.messages import JoinRequest


def join_request_of(place: TorchrunPlace, identity: dict[str, str]) -> JoinRequest:
    """Return this process's description of itself.

    Args:
        place: its place in torchrun's world.
        identity: values that must be equal for all processes, by name; empty if unknown.
    """
    return JoinRequest(
        place.rank,
        place.local_rank,
        place.group_rank,
        socket.gethostname(),
        _system(),
        os.getpid(),
        _device_count(),
        os.environ.get("CUDA_VISIBLE_DEVICES", ""),
        identity,
    )


# Device files of NVIDIA, AMD, Intel and Gaudi drivers.
_DEVICE_FILES = ("/dev/nvidia*", "/dev/kfd", "/dev/dri/render*", "/dev/accel*", "/dev/hl*")


def _device_count() -> int:
    """Return how many devices (GPUs) this process sees; import torch only if there may be some."""
    if not any(glob.glob(pattern) for pattern in _DEVICE_FILES):
        return 0
    import torch

    try:
        return torch.accelerator.device_count()
    except RuntimeError:
        return 0


def _system() -> str:
    """Return an id of the booted kernel and of this process's PID namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()
