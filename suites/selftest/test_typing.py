"""The public API under mypy, as strict as it gets, in somebody else's project."""

from __future__ import annotations

import configparser
import re
import unittest

import harness
from suites.selftest.support import COMMAND_LIMIT_S, ROOT, new_folder, run_python

MODULE = "test_user"
# Without a `make types` before it, mypy has to look at all of torch: half a minute, or more.
_LIMIT_S = 2 * COMMAND_LIMIT_S

# Lines with `# wrong` are errors; everything else is not.
SUITE = """
import unittest

import torch
import torch.distributed as dist
from typing_extensions import assert_type

from harness import (
    DistributedTestBase, MultiProcContinuousTest, MultiProcessTestCase, MultiThreadedTestCase,
    TestCase, backends, create_tcp_store, delay_rank, devices, file_store, hash_store,
    instantiate_parametrized_tests, isolation, kill_rank, nodes, parametrize, requires_gloo,
    requires_world_size, run_on_ranks, run_tests, serial, set_rng_seed,
    skip_but_pass_in_sandcastle_if, skip_if_lt_x_gpu, skip_if_no_gpu, skip_if_win32,
    spawn_threads_and_init_comms, stop_rank, subtest, tcp_store, timeout, uses_resources,
    world_sizes, IS_CI, TEST_CUDA, RanksError, RanksTimedOutError, StateLeakWarning,
)
from hypothesis import given
from harness import FlakyExampleError, strategies
from harness.common_distributed import MultiProcessTestCase as Mirrored, skip_if_rocm_multiprocess
from harness.common_utils import retry_on_connect_failures


class TestPlain(TestCase):
    @skip_but_pass_in_sandcastle_if(IS_CI, "not in CI")
    def test_equal(self) -> None:
        set_rng_seed(7)
        self.assertEqual(torch.ones(3), [1.0, 1.0, 1.0], atol=1e-6, rtol=0.0, exact_dtype=False)
        self.assertEqual(torch.ones(3), torch.ones(3), atoll=1e-6)  # wrong

    @spawn_threads_and_init_comms(world_size=2)
    def test_threads(self) -> None:
        dist.barrier()

    @spawn_threads_and_init_comms
    def test_four_threads(self) -> None:
        dist.barrier()


@isolation("group")
@instantiate_parametrized_tests
class TestRanks(MultiProcessTestCase):
    world_size = 2
    timeout_s = 30.0
    isolation = "none"
    nodes = 2

    def setUp(self) -> None:
        super().setUp()
        self.scale = 2.0

    def perRankSetUp(self) -> None:
        self.init_process_group("gloo")

    @property
    def destroy_pg_upon_exit(self) -> bool:
        return False

    @requires_gloo()
    @skip_if_lt_x_gpu(2, allow_cpu=True)
    @timeout(30)
    def test_sum(self) -> None:
        assert_type(self.rank, int)
        assert_type(self.world_size, int)
        assert_type(self.device, torch.device)
        assert_type(self.is_master, bool)
        assert_type(self.file_name, str)
        x = torch.ones(3, device=self.device)
        dist.all_reduce(x)
        self.assertEqualOnAllRanks(x, torch.full((3,), self.scale))
        self.assertRanksAgree({"x": x})

    @given(ranks=strategies.groups(2), values=strategies.per_rank_tensors(2))
    def test_groups(self, ranks: tuple[int, ...], values: tuple[torch.Tensor, ...]) -> None:
        assert_type(strategies.groups(2).example(), tuple[int, ...])
        strategies.roots("two")  # wrong

    @parametrize("size", [1, subtest(2, name="two")])
    @world_sizes(1, 2)
    @backends("gloo", "nccl")
    def test_sizes(self, size: int, backend: str) -> None:
        self.init_process_group(backend)

    @devices("cpu", "cuda")
    @serial
    @uses_resources("port 29500")
    def test_devices(self, device: torch.device) -> None: ...

    @kill_rank(1, at=1, survivors_raise=RuntimeError, match="closed")
    @stop_rank(0, at=2)
    @delay_rank(0, at=1, seconds=0.1)
    def test_faults(self) -> None: ...

    @skip_if_no_gpu
    @skip_if_win32()
    @requires_world_size(2)
    def test_skips(self) -> None: ...

    @timeout("long")  # wrong
    def test_long(self) -> None: ...

    @kill_rank(1)  # wrong
    def test_when(self) -> None: ...


class TestBase(DistributedTestBase):
    @nodes(2)
    def test_nodes(self) -> None: ...

    @nodes("two")  # wrong
    def test_two_nodes(self) -> None: ...

    def test_device(self) -> None:
        self.create_pg("cpu")
        assert_type(self.backend("cpu"), str)


class TestContinuous(MultiProcContinuousTest):
    world_size = 2

    @classmethod
    def backend_str(cls) -> str:
        return "gloo"

    def test_group(self) -> None:
        dist.all_reduce(torch.ones(1), group=self.pg)


class TestThreads(MultiThreadedTestCase):
    world_size = 2

    def perThreadSetUp(self) -> None:
        self.assertEqualOnRank(self.rank, 0, rank=0)

    def test_rank(self) -> None:
        assert_type(self.rank, int)


class TestMirrored(Mirrored):
    @skip_if_rocm_multiprocess
    @retry_on_connect_failures
    @retry_on_connect_failures(connect_errors=["late"])
    def test_it(self) -> None:
        self.assertTrue(not TEST_CUDA)


def rank_of(offset: int) -> int:
    return dist.get_rank() + offset


def use() -> None:
    assert_type(run_on_ranks(rank_of, world_size=2, args=(1,), timeout_s=10.0), list[int])
    run_on_ranks(3)  # wrong
    run_on_ranks(rank_of, worldsize=2)  # wrong
    with file_store(2) as files, tcp_store() as tcp, hash_store() as hashes:
        files.set("a", "b")
        assert_type(tcp.port, int)
        hashes.get("a")
    assert_type(create_tcp_store().port, int)
    error: RanksError = RanksTimedOutError("late")
    warning: Warning = StateLeakWarning("left")
    print(error, warning)


if __name__ == "__main__":
    run_tests()
"""


def strict_for_one_module() -> str:
    """This project's own configuration, with everything on for the one module.

    All other modules, torch's above all, are then checked as `make types` checks them, so that both
    read and write one cache; else this test would take half a minute.
    """
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    ours = parser["mypy"]
    lowered = [name for name, value in ours.items() if value == "False"]
    sections = ["[mypy]", *(f"{name} = {value}" for name, value in ours.items() if name != "files")]
    sections += [f"[mypy-{MODULE}]", *(f"{name} = True" for name in lowered)]
    for name in parser.sections():
        if name.startswith("mypy-"):
            sections += [f"[{name}]", *(f"{key} = {value}" for key, value in parser[name].items())]
    return "\n".join(sections)


class TestTypes(unittest.TestCase):
    def test_of_a_users_project(self):
        folder = new_folder(self)
        file, config = folder / f"{MODULE}.py", folder / "mypy.ini"
        file.write_text(SUITE)
        config.write_text(strict_for_one_module())
        done = run_python("-m", "mypy", "--config-file", str(config), str(file), limit_s=_LIMIT_S)
        self.assertEqual(done.stderr, "")
        lines = enumerate(SUITE.splitlines(), 1)
        wrong = [number for number, line in lines if line.endswith("# wrong")]
        found = [int(n) for n in re.findall(rf"{MODULE}\.py:(\d+): error", done.stdout)]
        self.assertEqual(found, wrong, done.stdout)

    def test_every_option_that_is_off_for_us_is_on_for_the_user(self):
        text = strict_for_one_module()
        self.assertIn("strict = True", text)
        own = text.partition(f"[mypy-{MODULE}]")[2].partition("[mypy-")[0]
        for name in re.findall(r"^(\w+) = False", text.partition(f"[mypy-{MODULE}]")[0], re.M):
            self.assertIn(f"{name} = True", own)


class TestWhatIsPublic(unittest.TestCase):
    def test_every_function_is_annotated(self):
        for name in harness.__all__:
            value = getattr(harness, name)
            if callable(value) and not isinstance(value, type):
                self.assertIn("return", value.__annotations__, name)


if __name__ == "__main__":
    unittest.main()
