"""The part of a rank's state that torch keeps; looked at only where torch has been imported."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from harness.ranks import child_gloo, child_kept_group


def switches() -> Mapping[str, Any]:
    """torch's switches for this thread and this process."""
    torch = sys.modules.get("torch")
    if torch is None:
        return {}
    accelerator = {}
    if "torch.cuda" in sys.modules and torch.cuda.is_initialized():
        accelerator["current CUDA device"] = torch.cuda.current_device()
    return {
        "default dtype": torch.get_default_dtype(),
        "default device": torch.get_default_device(),
        "grad mode": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "anomaly mode": torch.is_anomaly_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "deterministic warn_only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "deterministic fill": torch.utils.deterministic.fill_uninitialized_memory,
        "matmul precision": torch.get_float32_matmul_precision(),
        "cudnn flags": (
            torch.backends.cudnn.enabled,
            torch.backends.cudnn.benchmark,
            torch.backends.cudnn.deterministic,
        ),
        "number of threads": torch.get_num_threads(),
        "function modes": torch._C._len_torch_function_stack(),
        "dispatch modes": torch._C._len_torch_dispatch_stack(),
        **accelerator,
    }


def groups() -> Mapping[str, Any]:
    """The process groups, but for the one to keep, and RPC's agent, which a rank has up."""
    kept = child_kept_group.name()
    found = {repr(name): f"of {group.size()} ranks" for name, group in _groups() if name != kept}
    found.update(child_gloo.unclosed())
    rpc = sys.modules.get("torch.distributed.rpc")
    if rpc is not None and rpc.is_available() and rpc._is_current_rpc_agent_set():
        found["of RPC"] = "still up"
    return found


def positions() -> dict[str, int]:
    """How many collectives have been called on each process group, by its name."""
    found: dict[str, int] = {}
    for name, group in _groups():
        try:
            found[name] = group._get_sequence_number_for_group()
        except RuntimeError:  # a backend that does not count
            continue
    return found


def _groups() -> list[tuple[str, Any]]:
    c10d = sys.modules.get("torch.distributed.distributed_c10d")
    world = getattr(c10d, "_world", None)
    return [(str(name), group) for group, name in list(world.pg_names.items())] if world else []


def is_own_hook(hook: object) -> bool:
    """Whether torch has put it there when a process group came up; it never takes it away."""
    return getattr(hook, "__module__", "") == "torch.distributed.distributed_c10d"
