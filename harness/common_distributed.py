"""Façade with the names of `torch.testing._internal.common_distributed`."""

from harness.cases.multiprocess import MultiProcessTestCase
from harness.cases.rank_tests import DEFAULT_WORLD_SIZE
from harness.cases.skips import (
    get_required_world_size,
    nccl_skip_if_lt_x_gpu,
    requires_gloo,
    requires_mpi,
    requires_nccl,
    requires_ucc,
    requires_world_size,
    skip_if_lt_x_gpu,
    skip_if_no_gpu,
    skip_if_odd_worldsize,
    skip_if_small_worldsize,
    skip_if_win32,
)
from harness.cases.timeouts import TIMEOUT_DEFAULT, TIMEOUT_OVERRIDE, get_timeout
from harness.model.skips import TEST_SKIPS, TestSkip
from harness.ranks.stores import create_tcp_store

__all__ = [
    "DEFAULT_WORLD_SIZE",
    "TEST_SKIPS",
    "TIMEOUT_DEFAULT",
    "TIMEOUT_OVERRIDE",
    "MultiProcessTestCase",
    "TestSkip",
    "create_tcp_store",
    "get_required_world_size",
    "get_timeout",
    "nccl_skip_if_lt_x_gpu",
    "requires_gloo",
    "requires_mpi",
    "requires_nccl",
    "requires_ucc",
    "requires_world_size",
    "skip_if_lt_x_gpu",
    "skip_if_no_gpu",
    "skip_if_odd_worldsize",
    "skip_if_small_worldsize",
    "skip_if_win32",
]
