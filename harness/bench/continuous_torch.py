"""The one-collective test in a world that has its process group up: PyTorch's."""

from __future__ import annotations

from torch.testing._internal.common_distributed import MultiProcContinuousTest

from harness.bench.isolation_side import WORLD_SIZE, all_reduce_ones


class OneCollective(MultiProcContinuousTest):
    """One all-reduce on the process group that the class has."""

    world_size = WORLD_SIZE

    @classmethod
    def backend_str(cls) -> str:
        return "gloo"

    def test_all_reduce(self) -> None:
        all_reduce_ones()
