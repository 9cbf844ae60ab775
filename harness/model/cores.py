"""Count the processors that this process may use.

The runner starts as many workers as that, and torch gets its share of them in each rank. A
container with a CPU quota still sees all processors of its host: on a quota of 2.5 processors of
192, it would start 192 workers. So the affinity alone is not enough.
"""

from __future__ import annotations

import functools
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def core_count() -> int:
    """Return how many processors this process may use, at least 1.

    Three limits apply: the processors of the machine, those that the process may run on (its
    affinity, or `PYTHON_CPU_COUNT`), and the CPU time that its control groups allow.
    """
    limits = [_affinity_count(), cpu_quota()]
    return max(1, min(count for count in limits if count is not None))


def _affinity_count() -> int:
    if hasattr(os, "process_cpu_count"):  # Python 3.13; it also respects -X cpu_count
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@functools.cache  # called for every test; a container's quota hardly ever changes
def cpu_quota(root: str = "/") -> int | None:
    """Return how many processors the control groups of this process allow; None for no limit.

    A quota of 2.5 processors counts as 3.

    Args:
        root: the folder that contains /proc and the mounted control groups.
    """
    quotas = [_quota_of(folder) for folder in _folders(Path(root))]
    known = [quota for quota in quotas if quota is not None]
    return max(1, math.ceil(min(known))) if known else None


def _folders(root: Path) -> Iterator[Path]:
    """Yield the folders of this process's control groups, and of all groups around these.

    Every group on the way to the root can have a quota; the smallest one applies. The files are
    described in proc(5) and cgroups(7).
    """
    groups = dict(_groups(_text(root / "proc/self/cgroup")))
    for line in _text(root / "proc/self/mountinfo").splitlines():
        # 36 35 98:0 /root-of-mount /mount-point rw,noatime master:1 - type source super-options
        before, _, after = line.partition(" - ")
        mount, kind = before.split(), after.split()
        if len(mount) < 5 or len(kind) < 3:
            continue
        # Version 2 has one hierarchy for all controllers, version 1 one for each.
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
    """Yield controller and path of the process's groups: "" for version 2, "cpu" for version 1."""
    for line in text.splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if not controllers and line.startswith("0::"):
            yield "", path
        elif "cpu" in controllers.split(","):
            yield "cpu", path


def _below(path: str, mounted: str) -> str:
    """Return the path of a group relative to a mount whose root is the group `mounted`.

    In a container, the mount often shows only the container's own group.
    """
    try:
        below = PurePosixPath(path).relative_to(mounted)
    except ValueError:  # the group is outside the mount: read the quota of the mount's root
        return ""
    return "" if ".." in below.parts else str(below)


def _quota_of(folder: Path) -> float | None:
    """Return how many processors one group allows; None if it has no limit or no such file."""
    quota, period = (*_text(folder / "cpu.max").split(), "", "")[:2]
    if not quota:
        quota = _text(folder / "cpu.cfs_quota_us").strip()
        period = _text(folder / "cpu.cfs_period_us").strip()
    # Without a limit, the quota is "max" in version 2 and -1 in version 1.
    if not quota.isdecimal() or not period.isdecimal():
        return None
    return int(quota) / int(period) if int(quota) and int(period) else None


def _unescaped(path: str) -> str:
    """Return a path of mountinfo, which has spaces and backslashes as octal escapes."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
