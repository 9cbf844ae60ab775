"""Flags for PyTorch's test environment variables and for this machine, with PyTorch's names.

As in PyTorch, they are read once, at import: decorators use them while test classes are defined.
"""

from __future__ import annotations

import os
import platform
import sys
from importlib.util import find_spec

import torch


def _on(variable: str, default: bool = False) -> bool:
    """Read a flag like PyTorch: if on by default, only "0" is off; otherwise only "1" is on."""
    value = os.environ.get(variable)
    return value != "0" if default else value == "1"


#: On a CI machine: CI is set, to any text, also to 0 (GitHub sets `true`).
IS_CI: bool = bool(os.environ.get("CI"))
#: On Meta's Sandcastle: SANDCASTLE=1, or TW_JOB_USER=sandcastle where SANDCASTLE is unset.
IS_SANDCASTLE: bool = _on("SANDCASTLE") or (
    "SANDCASTLE" not in os.environ and os.environ.get("TW_JOB_USER") == "sandcastle"
)
#: In a worker of Meta's remote execution: INSIDE_RE_WORKER is set.
IN_RE_WORKER: bool = "INSIDE_RE_WORKER" in os.environ
#: In Meta's repository: PYTORCH_TEST_FBCODE=1.
IS_FBCODE: bool = _on("PYTORCH_TEST_FBCODE")
#: On a remote GPU: PYTORCH_TEST_REMOTE_GPU=1.
IS_REMOTE_GPU: bool = _on("PYTORCH_TEST_REMOTE_GPU")

#: With the address sanitizer: PYTORCH_TEST_WITH_ASAN=1.
TEST_WITH_ASAN: bool = _on("PYTORCH_TEST_WITH_ASAN")
#: With the address sanitizer in a debug build: PYTORCH_TEST_WITH_DEV_DBG_ASAN=1.
TEST_WITH_DEV_DBG_ASAN: bool = _on("PYTORCH_TEST_WITH_DEV_DBG_ASAN")
#: With the thread sanitizer: PYTORCH_TEST_WITH_TSAN=1.
TEST_WITH_TSAN: bool = _on("PYTORCH_TEST_WITH_TSAN")
#: With the sanitizer for undefined behaviour: PYTORCH_TEST_WITH_UBSAN=1.
TEST_WITH_UBSAN: bool = _on("PYTORCH_TEST_WITH_UBSAN")
#: With a torch for AMD's GPUs: PYTORCH_TEST_WITH_ROCM=1.
TEST_WITH_ROCM: bool = _on("PYTORCH_TEST_WITH_ROCM")
#: Run slow tests too: PYTORCH_TEST_WITH_SLOW=1.
TEST_WITH_SLOW: bool = _on("PYTORCH_TEST_WITH_SLOW")
#: Run only slow tests: PYTORCH_TEST_SKIP_FAST=1.
TEST_SKIP_FAST: bool = _on("PYTORCH_TEST_SKIP_FAST")
#: True in builds where a process must not start another; always False outside Meta.
NO_MULTIPROCESSING_SPAWN: bool = False

#: On Linux.
IS_LINUX: bool = sys.platform == "linux"
#: On Windows.
IS_WINDOWS: bool = sys.platform == "win32"
#: On macOS.
IS_MACOS: bool = sys.platform == "darwin"
#: On an x86-64 processor.
IS_X86: bool = platform.machine() in {"x86_64", "i386", "AMD64"}
#: On a 64-bit ARM processor.
IS_ARM64: bool = platform.machine() in {"arm64", "aarch64", "ARM64"}

#: NumPy is installed.
TEST_NUMPY: bool = find_spec("numpy") is not None
#: SciPy is installed.
TEST_SCIPY: bool = find_spec("scipy") is not None

#: There is a CUDA device.
TEST_CUDA: bool = torch.cuda.is_available()
#: There are two CUDA devices or more.
TEST_MULTIGPU: bool = TEST_CUDA and torch.cuda.device_count() >= 2
#: There is an XPU (Intel).
TEST_XPU: bool = torch.xpu.is_available()
#: There is an HPU (Gaudi).
TEST_HPU: bool = bool(hasattr(torch, "hpu") and torch.hpu.is_available())
#: There is an MPS device (Apple).
TEST_MPS: bool = torch.backends.mps.is_available()
