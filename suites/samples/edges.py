"""Rank tests at the edges: where a harness is tempted to call something passed, or dead."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import struct
import threading
import time
import unittest
from concurrent.futures import ThreadPoolExecutor

import psutil
import torch.distributed as dist

from harness import MultiProcessTestCase, timeout

POOL = ThreadPoolExecutor(1)
# A third of what ranks may take to exit in the self-test, and three times the body's limit.
LATE_S = 3.0


class Leaving(MultiProcessTestCase):
    """The body is done, the process is not, and the body's time limit passes meanwhile."""

    world_size = 2

    @timeout(1.0)
    def test_thread_that_ends_late(self):
        threading.Thread(target=time.sleep, args=(LATE_S,)).start()

    @timeout(1.0)
    def test_death_in_a_late_exit_handler(self):
        def die():
            time.sleep(LATE_S)
            os._exit(3)

        if self.rank == 1:
            atexit.register(die)

    @timeout(1.0)
    def test_thread_that_never_ends(self):
        if self.rank == 1:
            threading.Thread(target=time.sleep, args=(10_000,)).start()

    def test_idle_pool_of_threads(self):
        """Python wakes such threads before it waits for them."""
        POOL.submit(int).result()


def write_to_all_sockets(data: bytes) -> None:
    """Write to descriptors that are not the test's, as one does that has confused them."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                os.write(int(name), data)


class Garbage(MultiProcessTestCase):
    """Rank 1 writes to the harness's own channel."""

    world_size = 2

    def garbage(self, data: bytes) -> None:
        if self.rank == 1:
            write_to_all_sockets(data)
        time.sleep(LATE_S)

    def test_no_frame(self):
        self.garbage(b"[" * 200)

    def test_no_message(self):
        self.garbage(struct.pack(">Q", 2) + b"[]")

    def test_no_outcome(self):
        body = b'{"kind": "Report", "outcome": 5}'
        self.garbage(struct.pack(">Q", len(body)) + body)


class NoServer(MultiProcessTestCase):
    """A rank kills the fork server."""

    world_size = 2

    def setUp(self):
        super().setUp()
        if self._testMethodName == "test_any_exit_code":
            self.skip_return_code_checks = [self.test_any_exit_code.__wrapped__]

    def kill_server(self):
        if self.rank == 1:
            os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(10_000)

    def test_server_is_killed(self):
        self.kill_server()

    def test_any_exit_code(self):
        self.kill_server()


class DyingLate(MultiProcessTestCase):
    """A rank's connections go before the rank does, as if the news of its end took its time."""

    world_size = 2
    LATE_S = 0.6

    def test_its_peer_is_heard_first(self):
        self.init_process_group()
        if self.rank == 1:
            for connection in psutil.Process().net_connections("tcp"):
                if connection.status == psutil.CONN_ESTABLISHED:  # gloo aborts if a listener goes
                    with (
                        contextlib.suppress(OSError),
                        socket.socket(fileno=os.dup(connection.fd)) as s,
                    ):
                        s.shutdown(socket.SHUT_RDWR)
            time.sleep(self.LATE_S)
            os.kill(os.getpid(), signal.SIGKILL)
        dist.barrier()

    def test_nobody_dies(self):
        if self.rank == 0:
            raise RuntimeError("Connection reset by peer, of which nobody knows")
        time.sleep(10_000)


class ExitCodes(MultiProcessTestCase):
    world_size = 2

    def setUp(self):
        super().setUp()
        test = getattr(self, self._testMethodName).__wrapped__
        self.special_return_code_checks = {test: 0 if "usual" in self._testMethodName else 15}

    def test_as_meant(self):
        if self.rank == 0:
            os._exit(15)

    def test_as_meant_but_not_on_rank_1(self):
        if self.rank == 0:
            os._exit(15)
        raise ValueError("rank 1")

    def test_usual_code(self):
        pass

    def test_usual_code_too_early(self):
        os._exit(0)


class ExpectedFailureWithoutRanks(MultiProcessTestCase):
    """No rank runs, so nothing has failed as expected."""

    world_size = 0

    @unittest.expectedFailure
    def test_no_ranks(self):
        self.fail("as expected, if anybody ran it")


class ExpectedFailureWithBadTimeout(MultiProcessTestCase):
    world_size = 1
    timeout_s = -1

    @unittest.expectedFailure
    def test_bad_timeout(self):
        self.fail("as expected, if anybody ran it")
