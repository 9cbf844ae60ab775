"""Read from the environment which rank of torchrun's (or srun's) world this process is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from harness.model import settings
from harness.model.errors import SettingError

# Without one of these, PyTorch could not find a world in the environment either (env://).
_NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True, slots=True)
class TorchrunPlace:
    """One process of torchrun's world, as its environment describes it.

    Attributes:
        rank, world_size: its rank, and the number of processes.
        local_rank: its number among the processes of its host.
        local_world_size: the number of processes on its host; None if unknown.
        group_rank: the number of its host; None if unknown.
        master_addr, master_port: where torchrun serves a store, or where rank 0 has to listen.
        run_id: torchrun's name of the run, or the number of Slurm's job; empty if there is neither.
        restart_count, max_restarts: how often torchrun has restarted the world, and may do so.
        has_store: whether torchrun serves a store.
    """

    rank: int
    world_size: int
    local_rank: int
    local_world_size: int | None
    group_rank: int | None
    master_addr: str
    master_port: int
    run_id: str = ""
    restart_count: int = 0
    max_restarts: int = 0
    has_store: bool = False

    @property
    def is_on_one_host(self) -> bool:
        """Whether all processes are certainly on this host."""
        return self.local_world_size == self.world_size

    @property
    def may_be_restarted(self) -> bool:
        """Whether torchrun would restart the world if one of its processes died."""
        return self.restart_count < self.max_restarts


def torchrun_place(environ: Mapping[str, str] | None = None) -> TorchrunPlace | None:
    """Return this process's place; None if torchrun did not start it, or HARNESS_USE_TORCHRUN=0.

    Args:
        environ: the environment; by default the process's own.

    Raises:
        SettingError: if the variables exist but are not valid.
    """
    environ = os.environ if environ is None else environ
    if not settings.USE_TORCHRUN.value() or not all(environ.get(name) for name in _NEEDED):
        return None
    size = _number(environ, "WORLD_SIZE", 1)
    rank = _number(environ, "RANK", 0)
    if rank >= size:
        raise SettingError(f"RANK={rank}: must be below WORLD_SIZE={size}")
    return TorchrunPlace(
        rank=rank,
        world_size=size,
        local_rank=_number(environ, "LOCAL_RANK", 0) if environ.get("LOCAL_RANK") else rank,
        local_world_size=_optional(environ, "LOCAL_WORLD_SIZE", 1),
        group_rank=_optional(environ, "GROUP_RANK", 0),
        master_addr=environ["MASTER_ADDR"],
        master_port=_number(environ, "MASTER_PORT", 1),
        run_id=environ.get("TORCHELASTIC_RUN_ID") or environ.get("SLURM_JOB_ID", ""),
        restart_count=_optional(environ, "TORCHELASTIC_RESTART_COUNT", 0) or 0,
        max_restarts=_optional(environ, "TORCHELASTIC_MAX_RESTARTS", 0) or 0,
        has_store=environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
    )


def forget() -> None:
    """Remove torchrun's variables for this process and all that it starts."""
    settings.USE_TORCHRUN.set(False)
    for name in [name for name in os.environ if name.startswith(_TORCHRUN_VARIABLES)]:
        del os.environ[name]


# Variables, or the starts of their names, that torchrun sets for each process.
_TORCHRUN_VARIABLES = (
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "GROUP_RANK",
    "GROUP_WORLD_SIZE",
    "ROLE_",
    "MASTER_ADDR",
    "MASTER_PORT",
    "TORCHELASTIC_",
    settings.WORLD_SECRET.env,
)


def _optional(environ: Mapping[str, str], name: str, least: int) -> int | None:
    return _number(environ, name, least) if environ.get(name) else None


def _number(environ: Mapping[str, str], name: str, least: int) -> int:
    text = environ[name]
    if not text.isdecimal() or int(text) < least:
        raise SettingError(f"{name}={text!r}: must be a whole number, {least} at least")
    return int(text)
