"""One deliberately bad rank test per fault, and beside each what must come of it.

The bodies stand on no TestCase of their own, so that the same ones run under PyTorch's harness
(`python -m harness.bench faults`). `FAULTS` has the expectations, by name of the test.
"""

from __future__ import annotations

import atexit
import ctypes
import logging
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import warnings

import torch
import torch.distributed as dist

from harness import MultiProcessTestCase, timeout
from suites.samples.fault_table import (
    FAULTS,
    TIME_LIMIT_S,
    Fault,
    Timekeeper,
    died,
    failed,
    fault,
    hung,
    raised,
    stuck,
)

__all__ = ["FAULTS", "Fault", "FaultBodies", "Faults"]

FOREVER_S = 10_000


class UnpicklableError(Exception):
    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")
        self.lock = threading.Lock()


class UnprintableError(Exception):
    def __str__(self):
        raise ValueError("no words")


class DeathBodies:
    """A rank dies while its peer waits for it in a collective."""

    def die_alone(self, how):
        self.bring_up()
        dist.barrier()
        if self.rank == 1:
            self.now()
            how()
        dist.all_reduce(torch.ones(2))

    @died("killed by SIGKILL", "rank 1: killed by SIGKILL before its body was done")
    def test_sigkill(self):
        self.die_alone(lambda: os.kill(os.getpid(), signal.SIGKILL))

    @died("killed by SIGTERM", "rank 1: killed by SIGTERM")
    def test_sigterm(self):
        self.die_alone(lambda: os.kill(os.getpid(), signal.SIGTERM))

    @died("segmentation fault", "rank 1: killed by SIGSEGV", "faults.py", "in <lambda>")
    def test_segfault(self):
        self.die_alone(lambda: ctypes.string_at(0))

    @died("abort()", "rank 1: killed by SIGABRT", "in test_abort")
    def test_abort(self):
        self.die_alone(os.abort)

    @died("os._exit(3)", "rank 1: exited with code 3 before its body was done")
    def test_os_exit_3(self):
        self.die_alone(lambda: os._exit(3))

    @died("os._exit(0) in the body", "rank 1: exited with code 0 before its body was done")
    def test_os_exit_0(self):
        self.die_alone(lambda: os._exit(0))

    @died("sys.exit(5)", "rank 1: exited with code 5", "faults.py", "sys.exit()")
    def test_sys_exit_5(self):
        self.die_alone(lambda: sys.exit(5))

    @died("sys.exit(0) in the body", "rank 1: exited with code 0 before its body was done")
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


class ExceptionBodies:
    """The test itself fails in one rank or in all of them."""

    @failed(
        "assertion on rank 1, peer in a collective",
        "rank 1: AssertionError",
        "Expected 2 but got 1.",
        "the long message",
        hides=("rank 0: RuntimeError",),
    )
    def test_assertion_rank_1(self):
        self.bring_up()
        dist.barrier()
        if self.rank == 1:
            self.now()
            self.assertEqual(1, 2, "the long message")
        dist.all_reduce(torch.ones(2))

    @failed("assertion on rank 0", "rank 0: AssertionError", "Expected 1 but got 0.")
    def test_assertion_rank_0(self):
        self.now()
        self.assertEqual(self.rank, 1)

    @failed(
        "the same assertion on all ranks", "ranks 0, 1: AssertionError", "Expected 8 but got 7."
    )
    def test_assertion_all(self):
        self.meet()
        self.now()
        self.assertEqual(7, 8)

    @raised("exception on rank 1", "rank 1: ValueError: bad value")
    def test_exception(self):
        if self.rank == 1:
            self.now()
            raise ValueError("bad value")

    @raised(
        "every rank fails in its own way", "rank 0: ValueError: zero", "rank 1: KeyError: 'one'"
    )
    def test_all_differently(self):
        self.meet()
        self.now()
        raise [ValueError("zero"), KeyError("one")][self.rank]

    @raised("an exception that cannot be pickled", "UnpicklableError: this and that")
    def test_unpicklable(self):
        self.now()
        raise UnpicklableError("this", "that")

    @raised("an exception whose __str__ raises", "UnprintableError", "raised ValueError")
    def test_exception_in_str(self):
        self.now()
        raise UnprintableError

    @failed("an assertion with a message of 1 MB", "characters left out", "the end of it")
    def test_1_mb_message(self):
        self.now()
        self.fail("a" * 1_000_000 + "the end of it")

    @raised("a message that is not valid UTF-8", "ValueError: \\udcff\\udcfe")
    def test_invalid_utf8_message(self):
        self.now()
        raise ValueError(b"\xff\xfe".decode("utf-8", "surrogateescape"))

    @failed("output that is not valid UTF-8", "before \ufffd\ufffd after", "AssertionError: see")
    def test_invalid_utf8_output(self):
        os.write(1, b"before \xff\xfe after\n")
        self.now()
        self.fail("see the output")

    @raised("endless recursion", "RecursionError")
    def test_recursion(self):
        self.now()
        self._recurse()

    def _recurse(self):
        return self._recurse()

    @raised("KeyboardInterrupt in a rank", "rank 1: KeyboardInterrupt")
    def test_keyboard_interrupt(self):
        if self.rank == 1:
            self.now()
            raise KeyboardInterrupt

    @raised("an exception in a cleanup", "rank 1: OSError: cleanup")
    def test_exception_in_cleanup(self):
        if self.rank == 1:
            self.now()
            self.addCleanup(self.raise_, OSError("cleanup"))

    def raise_(self, error):
        raise error

    @failed(
        "several sub-tests fail",
        "[first] (i=1, name='x')",
        "(i=3)",
        "rank 1: AssertionError: True is not false : 1",
        "ranks 0, 1: AssertionError: 3",
        hides=("(i=2)",),
    )
    def test_subtests(self):
        self.meet()
        self.now()
        with self.subTest("first", i=1, name="x"):
            self.assertFalse(self.rank == 1, "1")
        with self.subTest(i=2):
            pass
        with self.subTest(i=3):
            self.fail("3")

    @raised("a peer's error that only follows", "rank 1: ValueError: the cause", "rank 0: ")
    def test_collateral(self):
        self.bring_up()
        dist.barrier()
        if self.rank == 1:
            self.now()
            dist.destroy_process_group()
            raise ValueError("the cause")
        dist.all_reduce(torch.ones(2))


class SkipBodies:
    @fault(
        "a skip on rank 1 alone",
        "error",
        "RanksDisagreeError",
        ("rank 1: skipped: only here", "rank 0 passed"),
    )
    def test_skip_on_one_rank(self):
        if self.rank == 1:
            self.now()
            self.skipTest("only here")

    @fault("a skip on all ranks", "skipped", "", ("nothing to do",))
    def test_skip_on_all(self):
        self.now()
        self.skipTest("nothing to do")

    @fault("a skip on rank 1, an exception on rank 0", "error", "RanksRaisedError", ("ValueError",))
    def test_skip_and_exception(self):
        self.now()
        if self.rank == 1:
            self.skipTest("only here")
        raise ValueError("here too")


class ExpectedFailureBodies:
    @fault("expectedFailure and an assertion", "expected failure")
    @unittest.expectedFailure
    def test_expected_assertion(self):
        self.now()
        self.assertEqual(self.rank, 5)

    @fault("expectedFailure and an exception", "expected failure")
    @unittest.expectedFailure
    def test_expected_exception(self):
        self.now()
        raise ValueError

    @fault("expectedFailure, and all ranks pass", "unexpected success")
    @unittest.expectedFailure
    def test_unexpected_success(self):
        self.now()

    @died("expectedFailure and a crash", "rank 1: killed by SIGKILL")
    @unittest.expectedFailure
    def test_expected_but_killed(self):
        self.die_alone(lambda: os.kill(os.getpid(), signal.SIGKILL))

    @hung("expectedFailure and a timeout", "2 of 2 ranks had not finished after 1 s")
    @unittest.expectedFailure
    @timeout(TIME_LIMIT_S)
    def test_expected_but_hung(self):
        self.now()
        time.sleep(FOREVER_S)


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

    @hung("threads that never end", "had passed, but not exited after", "thread straggler:")
    def test_endless_thread(self):
        if self.rank == 1:
            threading.Thread(target=self.sleep_forever, name="straggler").start()
        self.now()

    @hung("a hang in an exit handler", "had passed, but not exited after")
    def test_hang_in_exit_handler(self):
        if self.rank == 1:
            atexit.register(time.sleep, FOREVER_S)
        self.now()


class DeadlockBodies:
    """Ranks wait for something that can no longer happen."""

    @stuck(
        "all_reduce against broadcast",
        "ranks 0, 1 diverge at collective 2 of group 'default_pg'",
        "all_reduce   float32 [1024, 16]",
        "broadcast   float32 [1024, 16]",
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

    @died("death during set-up", "rank 1: killed by SIGKILL before its body was done")
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
