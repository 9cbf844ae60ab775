"""Set torchrun's variables in a rank, and simulate nodes on one host.

Simulated nodes are parts of one host. Each gets a share of the devices and a host name of its own.
Native code, which asks the system, still sees the real host name.
"""

from __future__ import annotations

import os
import socket
import sys
from functools import partial

from harness.model.spec import LaunchSpec
from harness.model.topology import node_rank, variables

_VISIBLE = "CUDA_VISIBLE_DEVICES"

_real_names = (socket.gethostname, socket.getfqdn)


def environ_of_place(spec: LaunchSpec, rank: int) -> dict[str, str]:
    """Return torchrun's variables for a rank; none if the test does not use nodes."""
    if not spec.node_sizes:
        return {}
    values = variables(rank, spec.node_sizes)
    values["MASTER_ADDR"], values["MASTER_PORT"] = spec.store_host, str(spec.master_port)
    values["TORCHELASTIC_USE_AGENT_STORE"] = "True"  # every rank is a client of that store
    if spec.has_real_nodes:
        # srun may give each process one device, which the process calls its first.
        values["LOCAL_RANK"] = spec.surroundings.environ.get("LOCAL_RANK", values["LOCAL_RANK"])
        return values
    values["TORCHELASTIC_RUN_ID"] = os.path.basename(spec.folder)
    values["TORCHELASTIC_RESTART_COUNT"] = values["TORCHELASTIC_MAX_RESTARTS"] = "0"
    values["HOSTNAME"] = _host_name(spec, rank)
    return values


def _host_name(spec: LaunchSpec, rank: int) -> str:
    return f"node{node_rank(rank, spec.node_sizes).group_rank}"


def take_place(spec: LaunchSpec, rank: int) -> int:
    """Give a rank of a simulated node its own devices and host name; return its local rank.

    Call it after the rank's environment is set, and before torch counts devices.
    """
    socket.gethostname, socket.getfqdn = _real_names
    if not spec.node_sizes:
        return rank
    local_rank = int(os.environ["LOCAL_RANK"])
    if spec.has_real_nodes:
        return local_rank
    name = _host_name(spec, rank)
    socket.gethostname = lambda: name
    socket.getfqdn = partial(_full_name, name)
    share = _share_of(_devices(), node_rank(rank, spec.node_sizes).group_rank, len(spec.node_sizes))
    if share:
        os.environ[_VISIBLE] = ",".join(share)
    return local_rank


def _full_name(own: str, name: str = "") -> str:
    return own if name in {"", own} else _real_names[1](name)


def _devices() -> list[str]:
    named = os.environ.get(_VISIBLE)
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    return [str(number) for number in range(cuda.device_count())] if cuda is not None else []


def _share_of(devices: list[str], node: int, nodes: int) -> list[str]:
    """Return the node's equal share of the devices; none if there are too few."""
    count = len(devices) // nodes
    return devices[node * count : (node + 1) * count]
