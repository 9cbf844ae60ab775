"""How a process describes itself to rank 0 when it joins: where it is, and what it runs."""

from __future__ import annotations

import glob
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.model.torchrun_environ import TorchrunPlace
from harness.ranks.channel import Message


@dataclass(frozen=True)
class JoinRequest:
    """How a process describes itself when it joins."""

    rank: int
    local_rank: int
    group_rank: int | None
    host: str
    system: str
    pid: int
    devices: int
    visible: str
    identity: Mapping[str, str]


def join_request_of(place: TorchrunPlace, identity: Mapping[str, str]) -> JoinRequest:
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


def join_request_from(message: Message) -> JoinRequest:
    """Return the join request in a message. Raises ValueError naming the invalid field."""
    join_request = message.get("card")
    if message["kind"] != "join" or not isinstance(join_request, dict):
        raise ValueError(f"not a join request: {message!r:.100}")
    try:
        found = JoinRequest(**join_request)
    except TypeError:  # other fields than a join request has
        raise ValueError(f"a join request with the fields {sorted(join_request)!r:.100}") from None
    for name, value in join_request.items():
        if not _JOIN_REQUEST_RULES[name](value):
            raise ValueError(f"{name} {value!r:.100}")
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_identity(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


_JOIN_REQUEST_RULES: dict[str, Callable[[object], bool]] = {
    "rank": _is_number,
    "local_rank": _is_number,
    "group_rank": lambda value: value is None or _is_number(value),
    "host": _is_text,
    "system": _is_text,
    "pid": _is_number,
    "devices": _is_number,
    "visible": _is_text,
    "identity": _is_identity,
}
