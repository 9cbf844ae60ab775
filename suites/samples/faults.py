"""One deliberately bad rank test per fault, and beside each what must come of it.

The bodies stand on no TestCase of their own, so that the same ones run under PyTorch's harness
(`python -m harness.bench faults`). `FAULTS` has the expectations, by name of the test.
"""

from __future__ import annotations

import atexit
import ctypes
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings

import torch
import torch.distributed as dist

from harness import MultiProcessTestCase, timeout
from suites.samples.fault_table import (
    FAULTS,
    FOREVER_S,
    TIME_LIMIT_S,
    Fault,
    Timekeeper,
    died,
    fault,
    hung,
    raised,
    stuck,
)
from suites.samples.faults_deaths import DeathBodies
from suites.samples.faults_exceptions import ExceptionBodies, ExpectedFailureBodies, SkipBodies

__all__ = ["FAULTS", "Fault", "FaultBodies", "Faults"]


class HangBodies:
    """A rank does not come back."""

    @hung("a rank sleeps for ever", "rank 1: running", "in test_sleep  (the test)", "rank 0 passed")
    @timeout(TIME_LIMIT_S)
    def test_sleep(self):
        if self.rank == 1:
            self.now()
            time.sleep(FOREVER_S)

    @hung("an endless loop", "rank 1: running", "in test_endless_loop  (the test)")
    @timeout(TIME_LIMIT_S)
    def test_endless_loop(self):
        self.now()
        while self.rank == 1:
            pass

    @hung(
        "blocked in native code that holds the GIL",
        "rank 1: does not answer",
        "holds the GIL",
        "in test_gil  (the test)",
    )
    @timeout(TIME_LIMIT_S)
    def test_gil(self):
        if self.rank == 1:
            # A sleep would end when a signal comes; who locks a mutex twice waits for ever.
            lock = ctypes.PyDLL(None).pthread_mutex_lock
            mutex = ctypes.create_string_buffer(64)
            self.now()
            lock(mutex)
            lock(mutex)

    @hung("stopped by SIGSTOP", "rank 1: stopped by a signal")
    @timeout(TIME_LIMIT_S)
    def test_sigstop(self):
        if self.rank == 1:
            self.now()
            os.kill(os.getpid(), signal.SIGSTOP)

    @hung("SIGTERM is ignored", "rank 1: running", "in test_ignores_sigterm  (the test)")
    @timeout(TIME_LIMIT_S)
    def test_ignores_sigterm(self):
        if self.rank == 1:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            self.now()
            time.sleep(FOREVER_S)

    @hung("a hang in a cleanup", "rank 1: running", "sleep_forever")
    @timeout(TIME_LIMIT_S)
    def test_hang_in_cleanup(self):
        self.now()
        if self.rank == 1:
            self.addCleanup(self.sleep_forever)

    def sleep_forever(self):
        time.sleep(FOREVER_S)

    @hung("threads that never end", "passed, but did not exit within", "thread straggler:")
    def test_endless_thread(self):
        if self.rank == 1:
            threading.Thread(target=self.sleep_forever, name="straggler").start()
        self.now()

    @hung("a hang in an exit handler", "passed, but did not exit within")
    def test_hang_in_exit_handler(self):
        if self.rank == 1:
            atexit.register(time.sleep, FOREVER_S)
        self.now()


class DeadlockBodies:
    """Ranks wait for something that can no longer happen."""

    @stuck(
        "all_reduce against broadcast",
        "ranks 0 and 1 diverge at collective 2 of group 'default_pg'",
        "all_reduce SUM   float32 [1024, 16]",
        "broadcast root 0   float32 [1024, 16]",
        "faults.py",
    )
    def test_desync(self):
        self.bring_up()
        x = torch.ones(1024, 16)
        dist.all_reduce(x)
        self.now()
        if self.rank == 0:
            dist.all_reduce(x)
            dist.all_reduce(x)
        else:
            dist.broadcast(x, src=0)
            dist.barrier()

    @raised("the peer has finished", "rank 1 never reached collective 2", "rank 1 passed")
    def test_peer_has_finished(self):
        self.bring_up()
        dist.barrier()
        self.now()
        if self.rank == 0:
            dist.all_reduce(torch.ones(3))

    @stuck(
        "each receives from the other", "waiting in recv from rank 1", "waiting in recv from rank 0"
    )
    def test_both_receive(self):
        self.bring_up()
        self.now()
        dist.recv(torch.ones(1), src=1 - self.rank)

    @stuck(
        "a rank never calls init_process_group", "waiting in init_process_group", "rank 1 passed"
    )
    def test_alone_in_rendezvous(self):
        self.now()
        if self.rank == 0:
            self.bring_up()

    @stuck("new_group on one rank alone", "waiting in new_group")
    def test_new_group_alone(self):
        self.bring_up()
        self.now()
        if self.rank == 0:
            dist.new_group([0, 1])


class NoFaultBodies:
    """What looks dangerous, and is sound."""

    @fault("a flood of 200 MB", "passed", within_s=60)
    def test_flood(self):
        self.now()
        chunk = b"x" * 99 + b"\n"
        for _ in range(200):
            os.write(1, chunk * 10_000)

    @fault("stdout is closed", "passed")
    def test_closes_stdout(self):
        self.now()
        os.close(1)

    @fault("sys.stdout is closed", "passed")
    def test_closes_sys_stdout(self):
        self.now()
        sys.stdout.close()

    @fault("a daemon thread that never ends", "passed")
    def test_daemon_thread(self):
        threading.Thread(target=time.sleep, args=(FOREVER_S,), daemon=True).start()
        self.now()

    @fault("assertWarns, assertLogs, addCleanup", "passed")
    def test_unittest_as_usual(self):
        done = []
        self.addCleanup(done.append, 1)
        with self.assertWarns(UserWarning):
            warnings.warn("careful", UserWarning, stacklevel=1)
        with self.assertLogs("some", level="INFO") as logs:
            logging.getLogger("some").info("told")
        self.assertEqual(logs.output, ["INFO:some:told"])
        self.doCleanups()
        self.assertEqual(done, [1])
        self.now()

    @fault("a forked child goes on with the test", "passed")
    def test_forked_child_fails(self):
        pid = os.fork()
        if pid == 0:
            raise ValueError("in the child of a rank")
        os.waitpid(pid, 0)
        self.now()


class LeftBehindBodies:
    """What ranks leave is found and removed."""

    @fault(
        "a process left behind",
        "passed",
        shows=("rank 1 left process", "sleep 10000"),
        warns="ProcessLeakWarning",
        within_s=2,
    )
    def test_leaves_process(self):
        self.now()
        if self.rank == 1:
            subprocess.Popen(["sleep", str(FOREVER_S)])

    @fault(
        "a process left behind that is its own session",
        "passed",
        shows=("a rank left process", "sleep 10000"),
        warns="ProcessLeakWarning",
        within_s=2,
    )
    def test_leaves_daemon(self):
        self.now()
        if self.rank == 1:
            subprocess.Popen(["sleep", str(FOREVER_S)], start_new_session=True)

    @fault(
        "a fork left behind that is its own session",
        "passed",
        shows=("a rank left process",),
        warns="ProcessLeakWarning",
        within_s=2,
    )
    def test_leaves_fork(self):
        self.now()
        if self.rank == 1 and os.fork() == 0:
            os.setsid()
            time.sleep(FOREVER_S)

    @died("a process left behind by a rank that is killed", "rank 1: killed by SIGKILL", within_s=2)
    def test_leaves_process_and_dies(self):
        if self.rank == 1:
            subprocess.Popen(["sleep", str(FOREVER_S)], start_new_session=True)
            self.now()
            os.kill(os.getpid(), signal.SIGKILL)

    @died("temp files of a rank that is killed", "rank 1: killed by SIGKILL")
    def test_leaves_temp_files(self):
        tempfile.mkdtemp()
        if self.rank == 1:
            self.now()
            os.kill(os.getpid(), signal.SIGKILL)


class FaultBodies(
    Timekeeper,
    DeathBodies,
    ExceptionBodies,
    SkipBodies,
    ExpectedFailureBodies,
    HangBodies,
    DeadlockBodies,
    NoFaultBodies,
    LeftBehindBodies,
):
    """All bodies that need nothing of their class but ranks."""

    world_size = 2


class Faults(FaultBodies, MultiProcessTestCase):
    """The faults under our own harness."""


class FaultsInSetUp(Timekeeper, MultiProcessTestCase):
    """A rank dies in its set-up."""

    world_size = 2

    def perRankSetUp(self):
        if self.rank == 1:
            self.now()
            os.kill(os.getpid(), signal.SIGKILL)

    @died("death during set-up", "rank 1: killed by SIGKILL before its body finished")
    def test_death_in_set_up(self):
        pass


class FaultsInTearDown(Timekeeper, MultiProcessTestCase):
    """A rank hangs in its tear-down."""

    world_size = 2

    def perRankTearDown(self):
        if self.rank == 1:
            self.now()
            time.sleep(FOREVER_S)

    @hung("a hang in tear-down", "rank 1: running", "in perRankTearDown")
    @timeout(TIME_LIMIT_S)
    def test_hang_in_tear_down(self):
        pass


class NoRanks(Timekeeper, MultiProcessTestCase):
    """A world without ranks."""

    world_size = 0

    def setUp(self):
        self.now()  # in the parent: there will be no rank
        super().setUp()

    @fault("world size 0", "error", "WorldSizeError", ("NoRanks has world_size 0",))
    def test_world_size_0(self):
        pass
