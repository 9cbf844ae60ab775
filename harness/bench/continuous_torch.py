"""The one-collective test on PyTorch's harness, with a process group that is up already."""

from __future__ import annotations

from torch.testing._internal.common_distributed import MultiProcContinuousTest

from harness.bench.one_collective import OnGloo


class OneCollective(OnGloo, MultiProcContinuousTest):
    """Runs one all-reduce on the class's process group."""
