"""The public API: every name and its home. `__init__.py` imports a name when it is first used."""

from .cases.continuous import MultiProcContinuousTest
from .cases.distributed_base import DistributedTestBase
from .cases.flags import IS_CI, IS_SANDCASTLE, TEST_CUDA, TEST_MULTIGPU
from .cases.multiprocess import MultiProcessTestCase
from .cases.multithreaded import MultiThreadedTestCase
from .cases.parametrize import (
    decorateIf,
    instantiate_parametrized_tests,
    parametrize,
    reparametrize,
    subtest,
)
from .cases.running import run_tests
from .cases.sandcastle import (
    skip_but_pass_in_sandcastle,
    skip_but_pass_in_sandcastle_if,
)
from .cases.seeding import set_rng_seed
from .cases.skips import (
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
from .cases.testcase import TestCase
from .cases.thread_tests import spawn_threads_and_init_comms
from .cases.timeouts import timeout
from .cases.variants import devices, world_sizes
from .model.errors import (
    HarnessError,
    MismatchedCollectivesError,
    ProcessLeakError,
    RanksDeadlockedError,
    RanksDiedError,
    RanksDisagreeError,
    RanksError,
    RanksFailedError,
    RanksRaisedError,
    RanksTimedOutError,
    SettingError,
    WorldSizeError,
)
from .ranks.leftovers import ProcessLeakWarning, ThreadLeakWarning
from .ranks.stores import create_tcp_store, file_store, hash_store, tcp_store

__version__: str

__all__ = [
    "IS_CI",
    "IS_SANDCASTLE",
    "TEST_CUDA",
    "TEST_MULTIGPU",
    "DistributedTestBase",
    "HarnessError",
    "MismatchedCollectivesError",
    "MultiProcContinuousTest",
    "MultiProcessTestCase",
    "MultiThreadedTestCase",
    "ProcessLeakError",
    "ProcessLeakWarning",
    "RanksDeadlockedError",
    "RanksDiedError",
    "RanksDisagreeError",
    "RanksError",
    "RanksFailedError",
    "RanksRaisedError",
    "RanksTimedOutError",
    "SettingError",
    "TestCase",
    "ThreadLeakWarning",
    "WorldSizeError",
    "__version__",
    "create_tcp_store",
    "decorateIf",
    "devices",
    "file_store",
    "hash_store",
    "instantiate_parametrized_tests",
    "nccl_skip_if_lt_x_gpu",
    "parametrize",
    "reparametrize",
    "requires_gloo",
    "requires_mpi",
    "requires_nccl",
    "requires_ucc",
    "requires_world_size",
    "run_tests",
    "set_rng_seed",
    "skip_but_pass_in_sandcastle",
    "skip_but_pass_in_sandcastle_if",
    "skip_if_lt_x_gpu",
    "skip_if_no_gpu",
    "skip_if_odd_worldsize",
    "skip_if_small_worldsize",
    "skip_if_win32",
    "spawn_threads_and_init_comms",
    "subtest",
    "tcp_store",
    "timeout",
    "world_sizes",
]
