"""Get the native frames of a rank from py-spy, where that is installed."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

from harness.model.clock import Deadline


def find_py_spy() -> str | None:
    """Return the py-spy of this environment or of PATH; None if there is none."""
    beside = os.path.join(os.path.dirname(sys.executable), "py-spy")
    return beside if os.access(beside, os.X_OK) else shutil.which("py-spy")


def native_frames(pids: Sequence[int], limit_s: float) -> dict[int, tuple[str, ...]]:
    """Return the native frames of processes; leave out those that py-spy could not inspect.

    Args:
        pids: the processes.
        limit_s: seconds that all of them together may take.

    Returns:
        by process id, the native frames of the main thread inside its innermost Python frame,
        innermost first.
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
    frames = {pid: _inside_python(text) for pid, text in found.items()}
    return {pid: inside for pid, inside in frames.items() if inside}


def _inside_python(dump: str) -> tuple[str, ...]:
    """The frames of the main thread, in what `py-spy dump` prints, up to one of Python code."""
    _, _, main = dump.partition('"MainThread"\n')
    frames: list[str] = []
    for line in main.splitlines():
        if not line.startswith("    ") or ".py:" in line or "<" in line:
            break
        if not line.lstrip().startswith("0x"):  # a frame without a symbol
            frames.append(line.strip())
    return tuple(frames[:_MAX_FRAMES])


# A collective of torch has about twenty native frames; the informative ones are innermost.
_MAX_FRAMES = 8
# After KILL.
_REAP_S = 1.0


def _output(process: subprocess.Popen[str], deadline: Deadline) -> str:
    try:
        out, _ = process.communicate(timeout=deadline.remaining_s())
    except subprocess.TimeoutExpired:
        process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # in uninterruptible sleep
            process.communicate(timeout=_REAP_S)
        return ""
    return out.strip() if process.returncode == 0 else ""
