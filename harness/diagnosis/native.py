"""Native frames of a rank, by py-spy where it is installed: what it does below Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

from harness.model.clock import Deadline


def find_py_spy() -> str | None:
    """The py-spy of this environment or of the path; None if there is none."""
    beside = os.path.join(os.path.dirname(sys.executable), "py-spy")
    return beside if os.access(beside, os.X_OK) else shutil.which("py-spy")


def native_stacks(pids: Sequence[int], limit_s: float) -> dict[int, str]:
    """The stacks of processes with native frames; those that py-spy could not get are left out.

    Args:
        pids: the processes.
        limit_s: seconds that all of them together may take.
    """
    py_spy = find_py_spy()
    if py_spy is None:
        return {}
    started = {
        pid: subprocess.Popen(
            [py_spy, "dump", "--native", "--pid", str(pid)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
        )
        for pid in pids
    }
    deadline = Deadline.after(limit_s)
    found = {pid: _output(process, deadline) for pid, process in started.items()}
    return {pid: text for pid, text in found.items() if text}


def _output(process: subprocess.Popen[str], deadline: Deadline) -> str:
    try:
        out, _ = process.communicate(timeout=deadline.remaining_s())
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return ""
    return out.strip() if process.returncode == 0 else ""
