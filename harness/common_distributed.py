"""Façade with the names of `torch.testing._internal.common_distributed`."""

from harness.cases.classes import (
    DistributedTestBase,
    DynamoDistributedMultiProcTestCase,
)
from harness.cases.continuous import MultiProcContinuousTest
from harness.cases.decorators.hardware import (
    at_least_x_gpu,
    import_transformers_or_skip,
    init_multigpu_helper,
    require_n_gpus_for_nccl_backend,
    requires_accelerator_dist_backend,
    requires_ddp_rank,
    requires_multicast_support,
    requires_nccl_shrink,
    requires_nccl_version,
    skip_if_rocm_arch_multiprocess,
    skip_if_rocm_multiprocess,
    skip_if_rocm_ver_atleast_multiprocess,
    skip_if_rocm_ver_lessthan_multiprocess,
    with_nccl_blocking_wait,
)
from harness.cases.decorators.skips import (
    get_required_world_size,
    nccl_skip_if_lt_x_gpu,
    requires_gloo,
    requires_mpi,
    requires_nccl,
    requires_ucc,
    requires_world_size,
    requires_xccl,
    skip_if_lt_x_gpu,
    skip_if_no_gpu,
    skip_if_odd_worldsize,
    skip_if_small_worldsize,
    skip_if_win32,
)
from harness.cases.forwarding import forward as _forward
from harness.cases.helpers import captured_output, run_subtests, with_dist_debug_levels
from harness.cases.multiprocess import MultiProcessTestCase
from harness.cases.multithreaded import MultiThreadedTestCase
from harness.cases.sparse import simple_sparse_reduce_tests
from harness.cases.thread_mixin import spawn_threads_and_init_comms
from harness.cases.timeouts import TIMEOUT_DEFAULT, TIMEOUT_OVERRIDE, get_timeout
from harness.cases.world_mixin import DEFAULT_WORLD_SIZE
from harness.model.skips import TEST_SKIPS, TestSkip
from harness.ranks.stores import create_tcp_store

__all__ = [
    "DEFAULT_WORLD_SIZE",
    "TEST_SKIPS",
    "TIMEOUT_DEFAULT",
    "TIMEOUT_OVERRIDE",
    "DistributedTestBase",
    "DynamoDistributedMultiProcTestCase",
    "MultiProcContinuousTest",
    "MultiProcessTestCase",
    "MultiThreadedTestCase",
    "TestSkip",
    "at_least_x_gpu",
    "captured_output",
    "create_tcp_store",
    "get_required_world_size",
    "get_timeout",
    "import_transformers_or_skip",
    "init_multigpu_helper",
    "nccl_skip_if_lt_x_gpu",
    "require_n_gpus_for_nccl_backend",
    "requires_accelerator_dist_backend",
    "requires_ddp_rank",
    "requires_gloo",
    "requires_mpi",
    "requires_multicast_support",
    "requires_nccl",
    "requires_nccl_shrink",
    "requires_nccl_version",
    "requires_ucc",
    "requires_world_size",
    "requires_xccl",
    "run_subtests",
    "simple_sparse_reduce_tests",
    "skip_if_lt_x_gpu",
    "skip_if_no_gpu",
    "skip_if_odd_worldsize",
    "skip_if_rocm_arch_multiprocess",
    "skip_if_rocm_multiprocess",
    "skip_if_rocm_ver_atleast_multiprocess",
    "skip_if_rocm_ver_lessthan_multiprocess",
    "skip_if_small_worldsize",
    "skip_if_win32",
    "spawn_threads_and_init_comms",
    "with_dist_debug_levels",
    "with_nccl_blocking_wait",
]

# PyTorch's own, imported when they are asked for. Not every version of torch has all of them.
FORWARDED = (
    "ACCELERATOR_DIST_BACKENDS",
    "C10dTorchCommsTestBase",
    "DDP_RANK_DEVICES",
    "DistTestCases",
    "DynamoDistributedSingleProcTestCase",
    "HAS_ACCELERATOR",
    "PLATFORM_SUPPORTS_SYMM_MEM",
    "SaveForwardInputsModel",
    "SaveForwardInputsModule",
    "TORCHCOMM_HAS_GLOO",
    "TORCHCOMM_HAS_NCCL",
    "TORCHCOMM_HAS_NCCLX",
    "TORCHCOMM_HAS_RCCL",
    "TORCHCOMM_HAS_RCCLX",
    "TORCHCOMM_HAS_XCCL",
    "cleanup_temp_dir",
    "core_dumps_disabled",
    "create_device",
    "evaluate_platform_supports_symm_mem",
    "has_efa",
    "initialize_temp_directories",
    "logger",
    "retrieve_result_from_completion_queue",
    "setup_torchcomms_pg",
    "sm_is_or_higher_than",
    "tmp_dir",
    "tp_transports",
    "verify_ddp_error_logged",
)
__getattr__ = _forward(__name__, "torch.testing._internal.common_distributed", FORWARDED)
