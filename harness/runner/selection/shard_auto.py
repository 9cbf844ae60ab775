"""`--shard auto`: which part of the tests this process is to run, by what its starter says."""

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
    """Somebody who starts the same command several times.

    Attributes:
        name: who it is.
        index, count: the variables that number the processes.
        first: the number of the first one; the name of a variable if that differs.
        is_given_world: whether the processes could run tests together instead.
    """

    name: str
    index: str
    count: str
    first: int | str = 0
    is_given_world: bool = False


#: What stands for the shard that the environment says.
AUTO = (0, 0)

# An array comes first: each of its tasks may well be a world that torchrun has started.
_STARTERS = (
    _Starter("a Slurm job array", "SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT",
             "SLURM_ARRAY_TASK_MIN"),
    _Starter("torchrun", "RANK", "WORLD_SIZE", is_given_world=True),
    _Starter("srun", "SLURM_PROCID", "SLURM_NTASKS"),
    _Starter("GitLab", "CI_NODE_INDEX", "CI_NODE_TOTAL", 1),
    _Starter("CircleCI", "CIRCLE_NODE_INDEX", "CIRCLE_NODE_TOTAL"),
    _Starter("Buildkite", "BUILDKITE_PARALLEL_JOB", "BUILDKITE_PARALLEL_JOB_COUNT"),
)  # fmt: skip


@dataclass(frozen=True)
class Share:
    """One part of the tests.

    Attributes:
        number, count: it is part `number`, from 1, of so many.
        splits_given_world: whether the parts are the processes of a given world, which so run
            tests each by itself.
    """

    number: int
    count: int
    splits_given_world: bool = False


def share_of(environ: Mapping[str, str] | None = None) -> Share:
    """The part that the environment says.

    Args:
        environ: by default that of the process.

    Raises:
        UsageError: if it says none, or one that cannot be.
    """
    environ = os.environ if environ is None else environ
    for starter in _STARTERS:
        if environ.get(starter.index) and environ.get(starter.count):
            return _share(starter, environ)
    known = ", ".join(starter.name for starter in _STARTERS)
    raise UsageError(f"--shard auto: nothing in the environment says which shard this is ({known})")


def _share(starter: _Starter, environ: Mapping[str, str]) -> Share:
    first, step = starter.first, "1"
    if isinstance(first, str):
        first, step = environ.get(first, ""), environ.get("SLURM_ARRAY_TASK_STEP", "")
    try:
        index = (int(environ[starter.index]) - int(first or 0)) // int(step or 1)
        count = int(environ[starter.count])
    except (ValueError, ZeroDivisionError):
        index, count = -1, 0
    if not 0 <= index < count <= settings.MAX_COUNT:
        said = (f"{name}={shortened(environ[name], 50)}" for name in (starter.index, starter.count))
        raise UsageError(
            f"--shard auto: {starter.name} says {' and '.join(said)}, which is no part of a whole"
        )
    return Share(index + 1, count, starter.is_given_world)


_REPORTS = ("junit", "html", "trace", "records")


def settle(found: dict[str, Any]) -> None:
    """Have the options say which shard `auto` is, and whose report is whose.

    Args:
        found: the options by name.

    Raises:
        UsageError: if nobody says which shard this is, or shards would write the same report.
    """
    if found["shard"] == AUTO:
        share = share_of()
        found["shard"] = (share.number, share.count)
        found["splits_given_world"] = share.splits_given_world
        if share.splits_given_world and share.count > 1:
            _check_paths(found)
    if found["shard"] is not None:
        number, count = found["shard"]
        for name in _REPORTS:
            # What stands for the shard in a path.
            found[name] = found[name] and found[name].replace("{shard}", f"{number}-of-{count}")


def _check_paths(found: Mapping[str, Any]) -> None:
    for name in _REPORTS:
        if found[name] and "{shard}" not in found[name]:
            raise UsageError(
                f"--{name} {found[name]}: with --shard auto each process writes one: put {{shard}} "
                "into the path, which stands for its number"
            )
