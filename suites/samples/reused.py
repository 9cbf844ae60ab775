"""Rank tests that share worlds: sound ones, ones that leave something, ones that go wrong."""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import unittest
import unittest.mock
import warnings
from datetime import timedelta

import torch
import torch.distributed as dist

from harness import (
    MultiProcContinuousTest,
    MultiProcessTestCase,
    expects_divergence,
    isolation,
    kill_rank,
    stop_rank,
    timeout,
)


def record(case) -> None:
    """Write down which process this rank is."""
    out = os.environ.get("SAMPLE_OUT")
    if out:
        with open(os.path.join(out, f"rank{case.rank}"), "a") as file:
            file.write(f"{os.getpid()}\n")


def all_reduce(case) -> None:
    x = torch.ones(4)
    dist.all_reduce(x)
    case.assertEqual(x, torch.full((4,), float(case.world_size)))


class OnGloo(MultiProcContinuousTest):
    world_size = 2

    @classmethod
    def backend_str(cls):
        return "gloo"


class Sound(OnGloo):
    def test_one(self):
        record(self)
        all_reduce(self)

    def test_two(self):
        record(self)
        all_reduce(self)

    def test_skips(self):
        record(self)
        self.skipTest("not today")

    def test_prints(self):
        print(f"said by {self._testMethodName}")
        record(self)

    def test_draws(self):
        record(self)
        self.assertRanksAgree(torch.rand(3))
        torch.rand(self.rank)

    @isolation("process")
    def test_alone(self):
        record(self)

    def test_fails(self):
        record(self)
        print(f"said by {self._testMethodName}")
        self.assertEqual(self.rank, 0)


class Sibling(OnGloo):
    """Another class, whose tests may have the same world and process group."""

    def test_one(self):
        record(self)
        all_reduce(self)


class Patient(OnGloo):
    """A process group of its own, since it waits longer; the processes may be the same."""

    timeout = OnGloo.timeout * 2

    def test_one(self):
        record(self)
        all_reduce(self)
        self.assertEqual(self.pg._get_backend(torch.device("cpu")).options._timeout, self.timeout)


class Own(MultiProcessTestCase):
    """Brings up process groups itself."""

    world_size = 2

    def test_by_helper(self):
        record(self)
        self.init_process_group()
        all_reduce(self)

    def test_by_helper_again(self):
        record(self)
        self.init_process_group()
        all_reduce(self)

    def test_by_torch(self):
        record(self)
        store = dist.FileStore(self.file_name, self.world_size)
        dist.init_process_group("gloo", store=store, rank=self.rank, world_size=self.world_size)
        all_reduce(self)

    def test_subgroup(self):
        record(self)
        self.init_process_group()
        dist.barrier(dist.new_group([0, 1]))

    def test_without_group(self):
        record(self)

    def test_needs_group(self):
        all_reduce(self)

    def test_one_after_the_other(self):
        for _ in range(3):
            self.init_process_group()
            all_reduce(self)
            dist.destroy_process_group()

    @timeout(1.0)
    def test_takes_too_long(self):
        time.sleep(1000)


class AfterTheBody(MultiProcessTestCase):
    """What goes wrong once the body has passed."""

    world_size = 2

    def run_test(self, test_name, parent_pipe):
        super().run_test(test_name, parent_pipe)
        assert self.rank == 0, "seen after the body"

    def test_passes(self):
        pass


class Hit(OnGloo):
    """Something is done to rank 1, which therefore does not stay; nor do the others."""

    @kill_rank(1, at=1, survivors_raise=RuntimeError)
    def test_killed(self):
        record(self)
        dist.barrier()

    @stop_rank(1, at=1)
    def test_stopped(self):
        record(self)
        if self.rank == 1:
            dist.barrier()

    @stop_rank(1, at=1)
    def test_stopped_and_left(self):
        if self.rank == 1:
            dist.barrier()
        os.environ["LEFT"] = "1"


OPENED_BY_THE_MODULE = open(__file__)  # noqa: SIM115


class Remains(OnGloo):
    """What each test leaves is named in `REMAINS`."""

    def test_environment(self):
        os.environ["LEFT"] = "1"

    def test_environment_gone(self):
        del os.environ["HOME"]

    def test_working_directory(self):
        os.chdir("/")

    def test_sys_path(self):
        sys.path.append("/nowhere")

    def test_default_dtype(self):
        torch.set_default_dtype(torch.float64)

    def test_default_device(self):
        torch.set_default_device("meta")

    def test_grad_mode(self):
        torch.set_grad_enabled(False)

    def test_deterministic(self):
        torch.use_deterministic_algorithms(True)

    def test_threads_of_torch(self):
        torch.set_num_threads(7)

    def test_thread(self):
        threading.Thread(target=time.sleep, args=(1000,), name="forgotten", daemon=True).start()

    def test_process(self):
        self.process = subprocess.Popen(["sleep", "1000"])

    def test_open_file(self):
        Remains.file = open(__file__)  # noqa: SIM115

    def test_many_open_files(self):
        Remains.files = [open(__file__) for _ in range(100)]  # noqa: SIM115

    def test_warnings_filter(self):
        warnings.simplefilter("ignore")

    def test_logger(self):
        logging.getLogger("sample").setLevel(logging.DEBUG)

    def test_logging_disabled(self):
        logging.disable(logging.CRITICAL)

    def test_signal_handler(self):
        signal.signal(signal.SIGUSR1, lambda *_: None)

    def test_excepthook(self):
        sys.excepthook = print

    def test_stdout(self):
        sys.stdout = sys.stderr

    def test_group(self):
        dist.new_group([0, 1])

    def test_group_destroyed(self):
        dist.destroy_process_group()

    def test_group_destroyed_on_one_rank(self):
        if self.rank == 1:
            dist.destroy_process_group()

    @expects_divergence("the numbers of collectives are what is tested")
    def test_uneven(self):
        if self.rank == 0:
            dist.all_reduce(torch.ones(1), async_op=True)

    def test_on_one_rank(self):
        if self.rank == 1:
            os.environ["LEFT"] = "1"

    def test_autocast_dtype(self):
        torch.set_autocast_dtype("cpu", torch.float16)

    def test_denormal_numbers(self):
        torch.set_flush_denormal(True)

    def test_timeout_of_the_group(self):
        dist.distributed_c10d._set_pg_timeout(timedelta(seconds=7))

    def test_global_hook(self):
        torch.nn.modules.module.register_module_forward_hook(print)

    def test_patch(self):
        unittest.mock.patch("os.getlogin").start()

    def test_module(self):
        del sys.modules["json"]

    def test_priority(self):
        os.nice(1)

    def test_reads_on(self):
        OPENED_BY_THE_MODULE.readline()

    def test_imports(self):
        import wave  # noqa: F401

    def test_fault_handler_to_come(self):
        faulthandler.dump_traceback_later(3600, exit=True)

    def test_settles(self):
        threading.Thread(target=time.sleep, args=(0.1,)).start()

    def test_alarm(self):
        signal.alarm(1000)

    def test_blocked_signal(self):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})

    def test_umask(self):
        os.umask(0o777)

    def test_output_turned_away(self):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

    def test_cleans_up(self):
        os.environ["LEFT"] = "1"
        self.addCleanup(os.environ.pop, "LEFT")


#: Test to what must be said of it; None for what is not left behind after all.
REMAINS = {
    "test_environment": "ranks 0 and 1: environment variable LEFT: 1 left behind",
    "test_environment_gone": "ranks 0 and 1: environment variable HOME gone",
    "test_working_directory": "ranks 0 and 1: the working directory is /, was ",
    "test_sys_path": "ranks 0 and 1: the sys.path is ",
    "test_default_dtype": "ranks 0 and 1: torch's default dtype is torch.float64, "
    "was torch.float32",
    "test_default_device": "ranks 0 and 1: torch's default device is device(type='meta'), was ",
    "test_grad_mode": "ranks 0 and 1: torch's grad mode is False, was True",
    "test_deterministic": "ranks 0 and 1: torch's deterministic algorithms is True, was False",
    "test_threads_of_torch": "ranks 0 and 1: torch's number of threads is 7, was 1",
    "test_thread": "ranks 0 and 1: thread 'forgotten' left behind",
    "test_process": "sleep 1000 left behind",
    "test_open_file": "reused.py left behind",
    "test_many_open_files": "ranks 0 and 1: open file: 95 more",
    "test_warnings_filter": "ranks 0 and 1: warnings filter",
    "test_logger": "ranks 0 and 1: logger 'sample'",
    "test_logging_disabled": "ranks 0 and 1: logger disable is 50, was 0",
    "test_signal_handler": "ranks 0 and 1: signal handler SIGUSR1 is ",
    "test_excepthook": "ranks 0 and 1: hook sys.excepthook is ",
    "test_stdout": "ranks 0 and 1: the sys.stdout is ",
    "test_group": "ranks 0 and 1: process group ",
    "test_group_destroyed": None,
    "test_group_destroyed_on_one_rank": "the ranks have different process groups: rank 0: '0', "
    "rank 1: none",
    "test_uneven": "the ranks have called different numbers of collectives: rank 0: ",
    "test_on_one_rank": "rank 1: environment variable LEFT: 1 left behind",
    "test_alarm": "ranks 0 and 1: the alarm is True, was False",
    "test_blocked_signal": "ranks 0 and 1: the blocked signals is ",
    "test_umask": "ranks 0 and 1: the umask is 0o777, was 0o",
    "test_output_turned_away": "open file 1 gone",
    "test_autocast_dtype": "torch's autocast dtype on cpu is torch.float16, was torch.bfloat16",
    "test_denormal_numbers": "ranks 0 and 1: the denormal numbers is flushed to zero, was kept",
    "test_timeout_of_the_group": "(cpu): timeout 0:00:07, made with ",
    "test_global_hook": "ranks 0 and 1: torch's global forward hooks is "
    "(<built-in function print>,)",
    "test_patch": "ranks 0 and 1: mock patch of 'getlogin' left behind",
    "test_module": "ranks 0 and 1: module json gone",
    "test_priority": "ranks 0 and 1: the nice value is ",
    "test_reads_on": "reused.py, read up to ",
    "test_imports": None,
    "test_fault_handler_to_come": None,
    "test_settles": None,
    "test_cleans_up": None,
}


class Hundred(OnGloo):
    """A hundred tests with one collective each, three of which go wrong."""


def _test(number: int):
    def test(self):
        if number == 10 and self.rank == 1:
            os.kill(os.getpid(), signal.SIGSEGV)
        if number == 20 and self.rank == 0:
            time.sleep(1000)
        if number == 30:
            raise unittest.SkipTest("the thirtieth")
        all_reduce(self)

    test.__name__ = f"test_{number:03}"
    return timeout(2.0)(test) if number == 20 else test


for _number in range(1, 101):
    setattr(Hundred, f"test_{_number:03}", _test(_number))
