"""How many processors this process may use."""

from __future__ import annotations

import functools
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def core_count() -> int:
    """Return how many processors this process may use, at least 1.

    Three limits hold: those that the machine has, those that the process may run on (its affinity,
    or what `PYTHON_CPU_COUNT` says), and the share of time that its control groups allow.
    """
    allowed = [_runs_on(), cpu_quota()]
    return max(1, min(count for count in allowed if count is not None))


def _runs_on() -> int:
    if hasattr(os, "process_cpu_count"):  # Python 3.13; knows -X cpu_count, too
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@functools.cache  # asked for every test; a container's quota hardly ever changes
def cpu_quota(root: str = "/") -> int | None:
    """Return how many processors the control groups of this process allow; None for no limit.

    A container that may use 2.5 of 192 processors sees all of them, also by its affinity. Only the
    quota tells. A part of a processor counts as one.

    Args:
        root: the folder that has /proc and the mounted control groups.
    """
    quotas = [_quota_of(folder) for folder in _folders(Path(root))]
    known = [quota for quota in quotas if quota is not None]
    return max(1, math.ceil(min(known))) if known else None


def _folders(root: Path) -> Iterator[Path]:
    """Find the folders of this process's control groups, and of the groups that these are in."""
    groups = dict(_groups(_text(root / "proc/self/cgroup")))
    for line in _text(root / "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        mount, kind = before.split(), after.split()
        if len(mount) < 5 or len(kind) < 3:
            continue
        controller = {"cgroup2": "", "cgroup": "cpu"}.get(kind[0])
        has_cpu = controller == "" or "cpu" in kind[2].split(",")
        if controller in groups and has_cpu:
            top = root / _unescaped(mount[4]).lstrip("/")
            folder = top / _below(groups[controller], _unescaped(mount[3]))
            yield folder
            while folder != top:
                folder = folder.parent
                yield folder


def _groups(text: str) -> Iterator[tuple[str, str]]:
    """The paths of the process's groups: in version 2 (as ""), in the "cpu" hierarchy of 1."""
    for line in text.splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if not controllers and line.startswith("0::"):
            yield "", path
        elif "cpu" in controllers.split(","):
            yield "cpu", path


def _below(path: str, mounted: str) -> str:
    """The path of a group below a mount whose root is the group `mounted`."""
    try:
        below = PurePosixPath(path).relative_to(mounted)
    except ValueError:  # the group is not in sight: what is mounted is all that can be asked
        return ""
    return "" if ".." in below.parts else str(below)


def _quota_of(folder: Path) -> float | None:
    """How many processors one group allows; None if it has no limit, or does not tell."""
    quota, period = (*_text(folder / "cpu.max").split(), "", "")[:2]
    if not quota:
        quota = _text(folder / "cpu.cfs_quota_us").strip()
        period = _text(folder / "cpu.cfs_period_us").strip()
    if not quota.isdecimal() or not period.isdecimal():  # "max" in version 2, -1 in version 1
        return None
    return int(quota) / int(period) if int(quota) and int(period) else None


def _unescaped(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
