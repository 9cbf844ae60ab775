"""What the ranks of a test are given beyond the test itself: environment and threads."""

from __future__ import annotations

import os

# gloo otherwise binds to the address of the host's name, which on laptops may not exist and on
# servers listens to the network; NCCL and TensorPipe (RPC) choose an interface likewise.
_LOOPBACK = "lo0" if os.uname().sysname == "Darwin" else "lo"
_DEFAULTS = {
    "GLOO_SOCKET_IFNAME": _LOOPBACK,
    "NCCL_SOCKET_IFNAME": _LOOPBACK,
    "TP_SOCKET_IFNAME": _LOOPBACK,
    # torch's record of the last collectives, for gloo too.
    "TORCH_FR_BUFFER_SIZE": "2000",
}


def launch_environ() -> dict[str, str]:
    """The parent's environment as it is now, with our defaults where it says nothing."""
    return {**_DEFAULTS, **os.environ}


def rank_threads(world_size: int) -> int:
    """Intra-op threads of each rank: its share of the cores, or what OMP_NUM_THREADS says."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdecimal() and int(asked) > 0:
        return int(asked)
    return max(1, len(os.sched_getaffinity(0)) // world_size)
