"""The one-collective test in a world that has its process group up: PyTorch's."""

from __future__ import annotations

from torch.testing._internal.common_distributed import MultiProcContinuousTest

from harness.bench.isolation_side import OnGloo


class OneCollective(OnGloo, MultiProcContinuousTest):
    """One all-reduce on the process group that the class has."""
