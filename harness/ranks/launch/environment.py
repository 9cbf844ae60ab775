"""Choose the environment and the number of threads of the ranks of a test."""

from __future__ import annotations

import functools
import getpass
import os
import re
import sys
import tempfile
from collections.abc import Mapping
from operator import attrgetter

from harness.model.cores import core_count
from harness.model.errors import StartError
from harness.ranks.class_lookup import check_class

# By default, gloo binds to the address of the host's name (torch 2.13). On a laptop, the name may
# have no address; on a server, that opens a port to the network. NCCL and TensorPipe (RPC) choose
# an interface the same way.
_LOOPBACK = "lo0" if os.uname().sysname == "Darwin" else "lo"
_LOOPBACK_ONLY = {
    "GLOO_SOCKET_IFNAME": _LOOPBACK,
    "NCCL_SOCKET_IFNAME": _LOOPBACK,
    "TP_SOCKET_IFNAME": _LOOPBACK,
}
# Turns on torch's flight recorder, which records the last collectives, of gloo too.
_DEFAULTS = {"TORCH_FR_BUFFER_SIZE": "2000"}


def name_for_ranks(cls: type) -> str:
    """Return the name under which a new process finds a test class in its module.

    Usually that is the class's own name. If a function has made the class, its name may be bound
    to another class, or to nothing; then it is a name that the module binds the class to.

    Raises:
        StartError: if a new process would find another class by the class's own name, or none.
    """
    module = sys.modules.get(cls.__module__)
    try:
        found = attrgetter(cls.__qualname__)(module)
    except AttributeError:
        found = None
    if found is cls or module is None:
        check_class(cls, found is cls)
        return cls.__qualname__
    bound = [name for name, value in vars(module).items() if value is cls]
    if not bound and found is not None:
        raise StartError(
            f"a new process would find another class of the name {cls.__qualname__} in module "
            f"{cls.__module__}: give each class a name of its own"
        )
    check_class(cls, bool(bound))
    return bound[0]


def launch_environ(
    temp: str, environ: Mapping[str, str] | None = None, interface: str | None = None
) -> dict[str, str]:
    """Return the environment of ranks: the parent's current one, plus our defaults.

    Args:
        temp: the ranks' temp folder.
        environ: replaces the parent's environment.
        interface: the network interface through which the hosts of a world reach each other; empty
            for the backends' own choice. None if the world is on this host alone.
    """
    network = _LOOPBACK_ONLY if interface is None else _to_others(interface)
    own = os.environ if environ is None else environ
    return {**network, **_DEFAULTS, **_compiler_cache(), **own, "TMPDIR": temp}


def _to_others(interface: str) -> dict[str, str]:
    """Return the variables for several hosts; NCCL chooses its interface well by itself."""
    names = ("GLOO_SOCKET_IFNAME", "TP_SOCKET_IFNAME") if interface else ()
    return dict.fromkeys(names, interface)


@functools.cache
def _compiler_cache() -> dict[str, str]:
    """Return the variable that keeps torch.compile's cache out of the test's temp folder.

    The folder is the one that torch chooses itself (torch._inductor.runtime.cache_dir_utils, torch
    2.13). Without this it would be in TMPDIR, so every test would compile everything again.
    """
    try:
        name = getpass.getuser()
    except (KeyError, ImportError, OSError):  # a user without an entry in the password database
        name = f"uid_{os.getuid()}"
    user = re.sub(r'[\\/:*?"<>|]', "_", name)
    return {"TORCHINDUCTOR_CACHE_DIR": os.path.join(tempfile.gettempdir(), f"torchinductor_{user}")}


def rank_threads(world_size: int) -> int:
    """Return each rank's intra-op threads: its share of the cores, or OMP_NUM_THREADS."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdecimal() and int(asked) > 0:
        return int(asked)
    return max(1, core_count() // world_size)
