"""Rank tests that pass, each showing one thing about the ranks it runs in."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from pathlib import Path

import psutil
import torch
import torch.distributed as dist

import harness
from harness import MultiProcessTestCase, requires_world_size, timeout, world_sizes
from harness.cases.decorators.skips import get_required_world_size


class Recording(MultiProcessTestCase):
    """Each rank writes what it sees to a file, for the self-test to read."""

    world_size = 2

    def record(self, text):
        Path(os.environ["SAMPLE_OUT"], f"rank{self.rank}").write_text(str(text))

    def test_environ(self):
        self.record(os.environ.get("SAMPLE_VALUE"))

    def test_cwd(self):
        self.record(os.getcwd())

    def test_sys_path(self):
        self.record("\n".join(sys.path))

    def test_argv(self):
        self.record("\n".join(sys.argv))

    def test_threads(self):
        self.record(torch.get_num_threads())

    def test_seed(self):
        self.record(torch.rand(()).item())

    def test_pid(self):
        self.record(os.getpid())

    def test_world_size(self):
        self.record(self.world_size)

    def test_file_name(self):
        self.record(self.file_name)

    def test_hooks(self):
        self.record(",".join(self.seen))

    def test_debug_level(self):
        self.record(dist.get_debug_level().name)

    def test_interface(self):
        self.record(os.environ["GLOO_SOCKET_IFNAME"])

    def test_everything(self):
        """What the tests above record one by one, for ranks that take long to start."""
        found = {
            "environ": os.environ.get("SAMPLE_VALUE"),
            "cwd": os.getcwd(),
            "sys_path": sys.path,
            "argv": sys.argv,
            "threads": torch.get_num_threads(),
            "seed": torch.rand(()).item(),
            "pid": os.getpid(),
            "debug_level": dist.get_debug_level().name,
            "interface": os.environ["GLOO_SOCKET_IFNAME"],
            "hooks": self.seen,
        }
        self.record(json.dumps(found))

    def test_temp_folder(self):
        with tempfile.NamedTemporaryFile(delete=False) as file:
            self.record(file.name)

    def test_scheduling(self):
        """By which of the kernel's policies the threads of this rank are scheduled."""
        self.init_process_group()
        threads = [int(name) for name in os.listdir("/proc/self/task")]
        self.record(sorted({os.sched_getscheduler(thread) for thread in threads}))
        dist.barrier()

    def test_listeners(self):
        """The addresses at which this rank listens while it is in a process group."""
        self.init_process_group()
        dist.barrier()
        family = psutil.Process().net_connections("inet")
        self.record("\n".join(c.laddr.ip for c in family if c.status == psutil.CONN_LISTEN))
        dist.barrier()

    def test_files(self):
        """Mode and path of everything in the test's folder and above it in the session's."""
        self.init_process_group()
        folder = Path(self.file_name).parent
        print("a line for the log")
        found = [folder.parent, folder, *folder.rglob("*")]
        self.record("\n".join(f"{path.stat().st_mode & 0o777:o} {path}" for path in found))
        dist.barrier()

    def test_timeouts(self):
        """The test's own timeout and its process group's, in seconds."""
        self.init_process_group()
        backend = dist.distributed_c10d._get_default_group()._get_backend(torch.device("cpu"))
        self.record(f"{self.timeout_s:g} {backend.options._timeout.total_seconds():g}")

    @timeout(11.0)
    def test_timeouts_of_a_decorator(self):
        Recording.test_timeouts(self)

    def perRankSetUp(self):
        self.seen = ["perRankSetUp"]

    def perRankTearDown(self):
        self.seen.append("perRankTearDown")
        if self._testMethodName == "test_hooks":
            self.record(",".join(self.seen))


class WithTimeout(Recording):
    timeout_s = 22


class WithoutSetUpCode(MultiProcessTestCase):
    """Nothing but a method: the harness starts the ranks and finds the store."""

    world_size = 2

    def test_all_reduce(self):
        self.init_process_group()
        x = torch.ones(3)
        dist.all_reduce(x)
        self.assertEqual(x, torch.full((3,), 2.0))

    def test_process_group_is_left_to_the_harness(self):
        self.init_process_group()
        self.assertTrue(dist.is_initialized())


class LikePyTorch(MultiProcessTestCase):
    """Written against PyTorch's class: spawns in setUp, brings its own store and process group."""

    @property
    def world_size(self):
        return 3

    def setUp(self):
        super().setUp()
        self._spawn_processes()

    def tearDown(self):
        super().tearDown()
        with contextlib.suppress(OSError):
            os.remove(self.file_name)

    def test_sum_of_ranks(self):
        store = dist.FileStore(self.file_name, self.world_size)
        dist.init_process_group("gloo", store=store, rank=self.rank, world_size=self.world_size)
        x = torch.tensor([self.rank])
        dist.all_reduce(x)
        self.assertEqual(x, torch.tensor([3]))

    def test_processes_can_be_looked_at_in_the_parent(self):
        self.assertIn(self.rank, range(3))
        self.assertEqual(self.is_master, self.rank == 0)


class OwnRun(MultiProcessTestCase):
    """Overrides `_run` as PyTorch's FSDP tests do: process group up before the test, down after."""

    world_size = 2
    destroy_pg_upon_exit = False

    @classmethod
    def _run(cls, rank, test_name, file_name, parent_pipe, **kwargs):
        self = cls(test_name)
        self.rank = rank
        self.file_name = file_name
        dist.init_process_group(
            "gloo", init_method=f"file://{file_name}", rank=rank, world_size=int(self.world_size)
        )
        dist.barrier()
        self.run_test(test_name, parent_pipe)
        dist.barrier()
        dist.destroy_process_group()

    def test_group_is_up(self):
        self.assertTrue(dist.is_initialized())


@harness.instantiate_parametrized_tests
class Sizes(Recording):
    @world_sizes(1, 2, 3, 4, 8)
    def test_size(self):
        self.init_process_group()
        x = torch.ones(1)
        dist.all_reduce(x)
        self.assertEqual(x.item(), self.world_size)
        self.record(self.world_size)

    @requires_world_size(3, allow_cpu=True)
    def test_three(self):
        self.record(self.world_size)


class SizeByProperty(Recording):
    @property
    def world_size(self):
        return get_required_world_size(self, 2)

    @requires_world_size(3, allow_cpu=True)
    def test_three(self):
        self.record(self.world_size)


class SizeByEnvironment(Recording):
    world_size = int(os.environ.get("SAMPLE_WORLD_SIZE", "2"))


class FreshProcesses(MultiProcessTestCase):
    """Nothing of one test is seen by the next."""

    world_size = 2
    seen: list[int] = []

    def test_first(self):
        self.seen.append(1)
        os.environ["SAMPLE_LEAK"] = "1"
        torch.set_default_dtype(torch.float64)
        self.assertEqual(self.seen, [1])

    def test_second(self):
        self.seen.append(2)
        self.assertEqual(self.seen, [2])
        self.assertNotIn("SAMPLE_LEAK", os.environ)
        self.assertEqual(torch.get_default_dtype(), torch.float32)


class StartsTwice(MultiProcessTestCase):
    """Its `setUp` starts the ranks where that of its base class has started some."""

    world_size = 2

    def setUp(self):
        super().setUp()
        self._spawn_processes()
        first = [process.pid for process in self.processes]
        os.environ["SAMPLE_FIRST"] = str(first)
        self._spawn_processes()
        assert not {process.pid for process in self.processes} & set(first)
        assert not any(map(psutil.pid_exists, first))

    def test_only_the_last_ranks_count(self):
        assert os.getpid() not in json.loads(os.environ["SAMPLE_FIRST"])
        store = dist.FileStore(self.file_name, self.world_size)
        dist.init_process_group("gloo", store=store, rank=self.rank, world_size=2)
        dist.barrier()


class JoinsTwice(MultiProcessTestCase):
    """The second time, the ranks that have been joined are as they were."""

    world_size = 2

    def setUp(self):
        super().setUp()
        self._spawn_processes()

    def _join_processes(self, fn):
        super()._join_processes(fn)
        super()._join_processes(fn)
        self._spawn_processes()
        super()._join_processes(fn)

    def test_passes(self):
        pass


class ChecksExits(MultiProcessTestCase):
    """PyTorch's tests of NCCL check in this way how each rank has exited."""

    world_size = 2

    def setUp(self):
        super().setUp()
        self._spawn_processes()

    def _check_return_codes(self, fn, elapsed_time):
        self.assertEqual([process.exitcode for process in self.processes], [-6, 0])
        super()._check_return_codes(fn, elapsed_time)

    def test_rank_0_aborts(self):
        if self.rank == 0:
            os.abort()

    def test_no_rank_aborts(self):
        pass

    def test_rank_1_fails(self):
        if self.rank == 0:
            os.abort()
        raise ValueError
