"""The switches of PyTorch's test environment, under PyTorch's names, and what this machine has.

They are read once, when this module is imported, as in PyTorch: tests are decorated with them.
"""

from __future__ import annotations

import os
import platform
import sys
from importlib.util import find_spec

import torch


def _on(variable: str, default: bool = False) -> bool:
    """A switch as PyTorch reads one: off only for 0 if on by default, on only for 1 if not."""
    value = os.environ.get(variable)
    return value != "0" if default else value == "1"


#: Any text in CI counts, also 0 (GitHub sets `true`).
IS_CI: bool = bool(os.environ.get("CI"))
IS_SANDCASTLE: bool = _on("SANDCASTLE") or (
    "SANDCASTLE" not in os.environ and os.environ.get("TW_JOB_USER") == "sandcastle"
)
IN_RE_WORKER: bool = "INSIDE_RE_WORKER" in os.environ
IS_FBCODE: bool = _on("PYTORCH_TEST_FBCODE")
IS_REMOTE_GPU: bool = _on("PYTORCH_TEST_REMOTE_GPU")

TEST_WITH_ASAN: bool = _on("PYTORCH_TEST_WITH_ASAN")
TEST_WITH_DEV_DBG_ASAN: bool = _on("PYTORCH_TEST_WITH_DEV_DBG_ASAN")
TEST_WITH_TSAN: bool = _on("PYTORCH_TEST_WITH_TSAN")
TEST_WITH_UBSAN: bool = _on("PYTORCH_TEST_WITH_UBSAN")
TEST_WITH_ROCM: bool = _on("PYTORCH_TEST_WITH_ROCM")
TEST_WITH_SLOW: bool = _on("PYTORCH_TEST_WITH_SLOW")
TEST_SKIP_FAST: bool = _on("PYTORCH_TEST_SKIP_FAST")
#: True in builds where a process must not start another; never so outside Meta's.
NO_MULTIPROCESSING_SPAWN: bool = False

IS_LINUX: bool = sys.platform == "linux"
IS_WINDOWS: bool = sys.platform == "win32"
IS_MACOS: bool = sys.platform == "darwin"
IS_X86: bool = platform.machine() in {"x86_64", "i386", "AMD64"}
IS_ARM64: bool = platform.machine() in {"arm64", "aarch64", "ARM64"}

TEST_NUMPY: bool = find_spec("numpy") is not None
TEST_SCIPY: bool = find_spec("scipy") is not None

TEST_CUDA: bool = torch.cuda.is_available()
TEST_MULTIGPU: bool = TEST_CUDA and torch.cuda.device_count() >= 2
TEST_XPU: bool = torch.xpu.is_available()
TEST_HPU: bool = bool(hasattr(torch, "hpu") and torch.hpu.is_available())
TEST_MPS: bool = torch.backends.mps.is_available()
