"""PyTorch's exit codes for ranks that skip a test, or whose body failed.

The harness sends outcomes through a channel. It still understands the exit codes: decorators that
users wrote for PyTorch's harness call `sys.exit(TEST_SKIPS[...].exit_code)` in a rank.
"""

from __future__ import annotations

from typing import NamedTuple


class TestSkip(NamedTuple):
    """One reason to skip: the exit code of the rank, and the text of the reason."""

    exit_code: int
    message: str


# pytest would otherwise try to collect the tuple as a test class.
TestSkip.__test__ = False  # type: ignore[attr-defined]


#: PyTorch's key to the exit code and the reason. Keys and codes are those of torch 2.13
#: (common_distributed.TEST_SKIPS); the texts are ours.
#: They are shown as the reason of a skipped test: "skipped: CUDA is not available".
TEST_SKIPS: dict[str, TestSkip] = {
    "backend_unavailable": TestSkip(72, "the distributed backend is not available"),
    "small_worldsize": TestSkip(73, "the world is too small for this test"),
    "no_cuda": TestSkip(74, "CUDA is not available"),
    "multi-gpu-1": TestSkip(75, "needs at least 1 GPU"),
    "nccl": TestSkip(76, "torch was built without NCCL"),
    "multi-gpu-2": TestSkip(77, "needs at least 2 GPUs"),
    "skipIfRocm": TestSkip(78, "does not run on ROCm"),
    "no_peer_access": TestSkip(79, "the GPUs cannot access each other's memory"),
    "multi-gpu-3": TestSkip(80, "needs at least 3 GPUs"),
    "multi-gpu-4": TestSkip(81, "needs at least 4 GPUs"),
    "multi-gpu-5": TestSkip(82, "needs at least 5 GPUs"),
    "multi-gpu-6": TestSkip(83, "needs at least 6 GPUs"),
    "multi-gpu-7": TestSkip(84, "needs at least 7 GPUs"),
    "multi-gpu-8": TestSkip(85, "needs at least 8 GPUs"),
    "generic": TestSkip(86, "the rank skipped without a reason"),
    "odd_worldsize": TestSkip(87, "the world size is odd"),
    "importerror": TestSkip(88, "a module that the test needs is not installed"),
    "no_accelerator": TestSkip(89, "no accelerator is available"),
}
# torch 2.15 renames these keys.
TEST_SKIPS |= {f"multi-device-{n}": TEST_SKIPS[f"multi-gpu-{n}"] for n in range(1, 9)}

#: The exit code of a rank whose body failed, as in PyTorch.
TEST_ERROR_EXIT_CODE = 10

_REASONS = {skip.exit_code: skip.message for skip in TEST_SKIPS.values()}


def skip_reason_of_exit(code: object) -> str | None:
    """Return the reason for a skip's exit code; None for any other code."""
    return _REASONS.get(code) if isinstance(code, int) else None
