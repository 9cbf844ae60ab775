"""Façade with the names of `torch.testing._internal.common_utils`."""

from harness.cases.decorators.flags import (
    IN_RE_WORKER,
    IS_ARM64,
    IS_CI,
    IS_FBCODE,
    IS_LINUX,
    IS_MACOS,
    IS_REMOTE_GPU,
    IS_SANDCASTLE,
    IS_WINDOWS,
    IS_X86,
    NO_MULTIPROCESSING_SPAWN,
    TEST_CUDA,
    TEST_HPU,
    TEST_MPS,
    TEST_NUMPY,
    TEST_SCIPY,
    TEST_SKIP_FAST,
    TEST_WITH_ASAN,
    TEST_WITH_DEV_DBG_ASAN,
    TEST_WITH_ROCM,
    TEST_WITH_SLOW,
    TEST_WITH_TSAN,
    TEST_WITH_UBSAN,
    TEST_XPU,
)
from harness.cases.decorators.parametrize import (
    compose_parametrize_fns,
    decorateIf,
    instantiate_parametrized_tests,
    parametrize,
    reparametrize,
    subtest,
)
from harness.cases.decorators.sandcastle import (
    skip_but_pass_in_sandcastle,
    skip_but_pass_in_sandcastle_if,
)
from harness.cases.forwarding import forward as _forward
from harness.cases.helpers import (
    ADDRESS_IN_USE,
    CONNECT_TIMEOUT,
    TemporaryDirectoryName,
    TemporaryFileName,
    find_free_port,
    retry_on_connect_failures,
)
from harness.cases.running import run_tests
from harness.cases.seeding import set_rng_seed
from harness.cases.testcase import TestCase

__all__ = [
    "ADDRESS_IN_USE",
    "CONNECT_TIMEOUT",
    "IN_RE_WORKER",
    "IS_ARM64",
    "IS_CI",
    "IS_FBCODE",
    "IS_LINUX",
    "IS_MACOS",
    "IS_REMOTE_GPU",
    "IS_SANDCASTLE",
    "IS_WINDOWS",
    "IS_X86",
    "NO_MULTIPROCESSING_SPAWN",
    "TEST_CUDA",
    "TEST_HPU",
    "TEST_MPS",
    "TEST_NUMPY",
    "TEST_SCIPY",
    "TEST_SKIP_FAST",
    "TEST_WITH_ASAN",
    "TEST_WITH_DEV_DBG_ASAN",
    "TEST_WITH_ROCM",
    "TEST_WITH_SLOW",
    "TEST_WITH_TSAN",
    "TEST_WITH_UBSAN",
    "TEST_XPU",
    "TemporaryDirectoryName",
    "TemporaryFileName",
    "TestCase",
    "compose_parametrize_fns",
    "decorateIf",
    "find_free_port",
    "instantiate_parametrized_tests",
    "parametrize",
    "reparametrize",
    "retry_on_connect_failures",
    "run_tests",
    "set_rng_seed",
    "skip_but_pass_in_sandcastle",
    "skip_but_pass_in_sandcastle_if",
    "subtest",
]

# What is none of our business is PyTorch's own, imported when it is asked for.
__getattr__ = _forward(__name__, "torch.testing._internal.common_utils")
