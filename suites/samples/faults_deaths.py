"""Faults that end a rank's process: signals, exits, and crashes in its last moments."""

from __future__ import annotations

import atexit
import ctypes
import os
import select
import signal
import sys

import torch
import torch.distributed as dist

from suites.samples.fault_table import died


class DeathBodies:
    """A rank dies while its peer waits for it in a collective."""

    def die_alone(self, how):
        self.bring_up()
        dist.barrier()
        if self.rank == 1:
            self.now()
            how()
        dist.all_reduce(torch.ones(2))

    @died("killed by SIGKILL", "rank 1: killed by SIGKILL before its body finished")
    def test_sigkill(self):
        self.die_alone(lambda: os.kill(os.getpid(), signal.SIGKILL))

    @died("killed by SIGTERM", "rank 1: killed by SIGTERM")
    def test_sigterm(self):
        self.die_alone(lambda: os.kill(os.getpid(), signal.SIGTERM))

    @died("segmentation fault", "rank 1: killed by SIGSEGV", "faults_deaths.py", "in <lambda>")
    def test_segfault(self):
        self.die_alone(lambda: ctypes.string_at(0))

    @died("abort()", "rank 1: killed by SIGABRT", "in test_abort")
    def test_abort(self):
        self.die_alone(os.abort)

    @died("os._exit(3)", "rank 1: exited with code 3 before its body finished")
    def test_os_exit_3(self):
        self.die_alone(lambda: os._exit(3))

    @died("os._exit(0) in the body", "rank 1: exited with code 0 before its body finished")
    def test_os_exit_0(self):
        self.die_alone(lambda: os._exit(0))

    @died("sys.exit(5)", "rank 1: exited with code 5", "faults_deaths.py", "sys.exit()")
    def test_sys_exit_5(self):
        self.die_alone(lambda: sys.exit(5))

    @died("sys.exit(0) in the body", "rank 1: exited with code 0 before its body finished")
    def test_sys_exit_0(self):
        self.die_alone(lambda: sys.exit(0))

    @died("all ranks killed", "2 of 2 ranks killed by SIGKILL")
    def test_all_killed(self):
        self.meet()
        self.now()
        os.kill(os.getpid(), signal.SIGKILL)

    @died("killed when the others have passed", "rank 1: killed by SIGKILL", "rank 0 passed")
    def test_killed_last(self):
        store = dist.FileStore(self.file_name, self.world_size)
        if self.rank == 0:
            store.set("pid", str(os.getpid()))
            store.get("watched")
        else:
            gone = os.pidfd_open(int(store.get("pid")))
            store.set("watched", "yes")
            select.select([gone], [], [])
            self.now()
            os.kill(os.getpid(), signal.SIGKILL)

    @died("death after the body, in an exit handler", "rank 1: exited with code 7 after its body")
    def test_death_in_exit_handler(self):
        if self.rank == 1:
            self.now()
            atexit.register(os._exit, 7)

    @died("death after the body, in a destructor", "rank 1: killed by SIGSEGV after its body")
    def test_death_in_destructor(self):
        class Dangerous:
            def __del__(self):
                os.kill(os.getpid(), signal.SIGSEGV)

        if self.rank == 1:
            self.now()
            # Alive until exit handlers are dropped.
            atexit.register(lambda dangerous: dangerous.__del__(), Dangerous())

    @died("killed after a flood of output", "rank 1: killed by SIGKILL", "the last words")
    def test_killed_after_flood(self):
        if self.rank == 1:
            for _ in range(20_000):
                print("x" * 100)
            print("the last words")
            self.now()
            os.kill(os.getpid(), signal.SIGKILL)
