"""The option --shard auto: find this process's part of the tests in the environment.

Slurm, torchrun and CI systems start the same command several times, and number the processes in
environment variables.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.model import settings
from harness.model.errors import UsageError
from harness.runner.reports.text import shortened


@dataclass(frozen=True)
class _Starter:
    """A system that starts the same command several times.

    Attributes:
        name: its name.
        index, count: the variables with a process's number and the number of processes.
        first: the number of the first process, or the variable that has it.
        may_be_ranks: whether the processes could also be the ranks of a run.
    """

    name: str
    index: str
    count: str
    first: int | str = 0
    may_be_ranks: bool = False


#: The value of the option --shard for "auto", until `settle` replaces it.
AUTO = (0, 0)

# A job array comes first: torchrun may start a world in each of its tasks.
_STARTERS = (
    _Starter("a Slurm job array", "SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT",
             "SLURM_ARRAY_TASK_MIN"),
    _Starter("torchrun", "RANK", "WORLD_SIZE", may_be_ranks=True),
    _Starter("srun", "SLURM_PROCID", "SLURM_NTASKS"),
    _Starter("GitLab", "CI_NODE_INDEX", "CI_NODE_TOTAL", 1),
    _Starter("CircleCI", "CIRCLE_NODE_INDEX", "CIRCLE_NODE_TOTAL"),
    _Starter("Buildkite", "BUILDKITE_PARALLEL_JOB", "BUILDKITE_PARALLEL_JOB_COUNT"),
)  # fmt: skip


@dataclass(frozen=True)
class Share:
    """One part of the tests.

    Attributes:
        number, count: part `number`, from 1, of `count`.
        shards_by_process: whether each process that torchrun started runs a part of its own.
    """

    number: int
    count: int
    shards_by_process: bool = False


def share_of(environ: Mapping[str, str] | None = None) -> Share:
    """Return this process's part, from the environment.

    Args:
        environ: the environment; by default the process's own.

    Raises:
        UsageError: if the variables are missing or not valid.
    """
    environ = os.environ if environ is None else environ
    for starter in _STARTERS:
        if environ.get(starter.index) and environ.get(starter.count):
            return _share(starter, environ)
    known = ", ".join(starter.name for starter in _STARTERS)
    raise UsageError(f"--shard auto: no environment variable says which shard this is ({known})")


def _share(starter: _Starter, environ: Mapping[str, str]) -> Share:
    first, step = starter.first, "1"
    if isinstance(first, str):
        first, step = environ.get(first, ""), environ.get("SLURM_ARRAY_TASK_STEP", "")
    try:
        # Slurm arrays may start at any number, with any step: --array=10-50:10.
        index = (int(environ[starter.index]) - int(first or 0)) // int(step or 1)
        count = int(environ[starter.count])
    except (ValueError, ZeroDivisionError):
        index, count = -1, 0
    if not 0 <= index < count <= settings.MAX_COUNT:
        names = (starter.index, starter.count)
        values = (f"{name}={shortened(environ[name], 50)}" for name in names)
        raise UsageError(
            f"--shard auto: {starter.name} has set {' and '.join(values)}, which is not valid"
        )
    return Share(index + 1, count, starter.may_be_ranks)


_REPORTS = ("junit", "html", "trace", "records")


def settle(found: dict[str, Any]) -> None:
    """Replace `auto` in the options with this process's shard, and `{shard}` in report paths.

    Args:
        found: the options by name.

    Raises:
        UsageError: if the shard is unknown, or several shards would write the same report.
    """
    if found["shard"] == AUTO:
        share = share_of()
        found["shard"] = (share.number, share.count)
        found["shards_by_process"] = share.shards_by_process
        if share.shards_by_process and share.count > 1:
            _check_paths(found)
    if found["shard"] is not None:
        number, count = found["shard"]
        for name in _REPORTS:
            found[name] = found[name] and found[name].replace("{shard}", f"{number}-of-{count}")


def _check_paths(found: Mapping[str, Any]) -> None:
    for name in _REPORTS:
        if found[name] and "{shard}" not in found[name]:
            raise UsageError(
                f"--{name} {found[name]}: with --shard auto each process writes one: put {{shard}} "
                "into the path, which becomes its number"
            )
