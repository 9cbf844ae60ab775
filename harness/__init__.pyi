"""The public API: every name and its home. `__init__.py` imports a name when it is first used."""

from .cases.classes import (
    DistributedTestBase,
    MultiProcContinuousTest,
    MultiProcessTestCase,
    MultiThreadedTestCase,
)
from .cases.decorators.chaos import delay_rank, kill_rank, stop_rank
from .cases.decorators.flags import IS_CI, IS_SANDCASTLE, TEST_CUDA, TEST_MULTIGPU
from .cases.decorators.overrides import isolation, nodes, timeout
from .cases.decorators.parametrize import (
    decorateIf,
    instantiate_parametrized_tests,
    parametrize,
    reparametrize,
    subtest,
)
from .cases.decorators.sandcastle import (
    skip_but_pass_in_sandcastle,
    skip_but_pass_in_sandcastle_if,
)
from .cases.decorators.skips import (
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
from .cases.decorators.variants import backends, devices, world_sizes
from .cases.on_ranks import run_on_ranks
from .cases.running import run_tests
from .cases.seeding import set_rng_seed
from .cases.testcase import TestCase
from .cases.thread_mixin import spawn_threads_and_init_comms
from .model.errors import (
    BodyNotRunError,
    ChaosError,
    ExampleValueError,
    FlakyExampleError,
    HarnessError,
    MismatchedCollectivesError,
    PeerLeftError,
    ProcessLeakError,
    PropertyError,
    RanksDeadlockedError,
    RanksDiedError,
    RanksDisagreeError,
    RanksError,
    RanksFailedError,
    RanksRaisedError,
    RanksTimedOutError,
    SettingError,
    StateLeakError,
    WorldSizeError,
)
from .model.marks import serial, uses_resources
from .ranks.launch.launcher import RanksSpawnedWarning
from .ranks.leftovers import ProcessLeakWarning, StateLeakWarning, ThreadLeakWarning
from .ranks.pool import WorldExitWarning
from .ranks.stores import create_tcp_store, file_store, hash_store, tcp_store

__version__: str

__all__ = [
    "IS_CI",
    "IS_SANDCASTLE",
    "TEST_CUDA",
    "TEST_MULTIGPU",
    "BodyNotRunError",
    "ChaosError",
    "DistributedTestBase",
    "ExampleValueError",
    "FlakyExampleError",
    "HarnessError",
    "MismatchedCollectivesError",
    "MultiProcContinuousTest",
    "MultiProcessTestCase",
    "MultiThreadedTestCase",
    "PeerLeftError",
    "ProcessLeakError",
    "ProcessLeakWarning",
    "PropertyError",
    "RanksDeadlockedError",
    "RanksDiedError",
    "RanksDisagreeError",
    "RanksError",
    "RanksFailedError",
    "RanksRaisedError",
    "RanksSpawnedWarning",
    "RanksTimedOutError",
    "SettingError",
    "StateLeakError",
    "StateLeakWarning",
    "TestCase",
    "ThreadLeakWarning",
    "WorldExitWarning",
    "WorldSizeError",
    "__version__",
    "backends",
    "create_tcp_store",
    "decorateIf",
    "delay_rank",
    "devices",
    "file_store",
    "hash_store",
    "instantiate_parametrized_tests",
    "isolation",
    "kill_rank",
    "nccl_skip_if_lt_x_gpu",
    "nodes",
    "parametrize",
    "reparametrize",
    "requires_gloo",
    "requires_mpi",
    "requires_nccl",
    "requires_ucc",
    "requires_world_size",
    "requires_xccl",
    "run_on_ranks",
    "run_tests",
    "serial",
    "set_rng_seed",
    "skip_but_pass_in_sandcastle",
    "skip_but_pass_in_sandcastle_if",
    "skip_if_lt_x_gpu",
    "skip_if_no_gpu",
    "skip_if_odd_worldsize",
    "skip_if_small_worldsize",
    "skip_if_win32",
    "spawn_threads_and_init_comms",
    "stop_rank",
    "subtest",
    "tcp_store",
    "timeout",
    "uses_resources",
    "world_sizes",
]
