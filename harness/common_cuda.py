"""Façade with the names of `torch.testing._internal.common_cuda`."""

from harness.cases.flags import TEST_CUDA, TEST_MULTIGPU

__all__ = ["TEST_CUDA", "TEST_MULTIGPU"]
