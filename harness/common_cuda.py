"""Façade with the names of `torch.testing._internal.common_cuda`."""

from harness.cases.decorators.flags import TEST_CUDA, TEST_MULTIGPU
from harness.cases.forwarding import forward as _forward

__all__ = ["TEST_CUDA", "TEST_MULTIGPU"]

# What is none of our business is PyTorch's own, imported when it is asked for.
__getattr__ = _forward(__name__, "torch.testing._internal.common_cuda")
