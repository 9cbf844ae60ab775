"""Get the native frames of ranks from py-spy, if it is installed."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

from harness.model.clock import Deadline


def find_py_spy() -> str | None:
    """Return the path of py-spy beside this Python, else on PATH; None if it is not installed."""
    beside = os.path.join(os.path.dirname(sys.executable), "py-spy")
    return beside if os.access(beside, os.X_OK) else shutil.which("py-spy")


def native_frames(pids: Sequence[int], limit_s: float) -> dict[int, tuple[str, ...]]:
    """Return the native frames of processes, without those that py-spy could not inspect.

    Args:
        pids: the processes; py-spy inspects all of them at once.
        limit_s: time limit for all of them together, in seconds.

    Returns:
        process id to the native frames that its main thread's innermost Python frame has called,
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
    dumps = {pid: _output_of(process, deadline) for pid, process in started.items()}
    frames = {pid: _frames_above_python(dump) for pid, dump in dumps.items()}
    return {pid: found for pid, found in frames.items() if found}


def _frames_above_python(dump: str) -> tuple[str, ...]:
    """Return the main thread's frames in the output of `py-spy dump`, up to the first of Python."""
    _, _, main = dump.partition('"MainThread"\n')
    frames: list[str] = []
    for line in main.splitlines():
        if not line.startswith("    ") or ".py:" in line or "<" in line:
            break
        if not line.lstrip().startswith("0x"):  # a frame without a symbol
            frames.append(line.strip())
    return tuple(frames[:_MAX_FRAMES])


# A collective of torch has about twenty native frames; the innermost ones are informative.
_MAX_FRAMES = 8
# How long a killed py-spy may take to exit.
_REAP_S = 1.0


def _output_of(process: subprocess.Popen[str], deadline: Deadline) -> str:
    try:
        out, _ = process.communicate(timeout=deadline.remaining_s())
    except subprocess.TimeoutExpired:
        process.kill()
        # A process in uninterruptible sleep does not die. Python reaps it when it next starts one.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=_REAP_S)
        return ""
    return out.strip() if process.returncode == 0 else ""
