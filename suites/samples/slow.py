"""Rank tests that are slow and sound: ranks wait long for each other, and all of them pass.

With a short HARNESS_DEADLOCK_AFTER, none may be taken for a deadlock.
"""

from __future__ import annotations

import ctypes
import datetime
import subprocess
import threading
import time

import torch
import torch.distributed as dist

from harness import MultiProcessTestCase

# Many times the confirmation time that the self-test sets.
LONG_S = 1.5


class SlowButSound(MultiProcessTestCase):
    world_size = 2

    def one_is_late(self, work):
        """Rank 1 works, rank 0 waits for it in a collective."""
        self.init_process_group()
        if self.rank == 1:
            work()
        x = torch.ones(2)
        dist.all_reduce(x)
        self.assertEqual(x, torch.full((2,), 2.0))

    def test_sleep(self):
        self.one_is_late(lambda: time.sleep(LONG_S))

    def test_computing_in_python(self):
        end = time.monotonic() + LONG_S

        def work():
            while time.monotonic() < end:
                pass

        self.one_is_late(work)

    def test_computing_in_torch(self):
        end = time.monotonic() + LONG_S

        def work():
            x = torch.randn(300, 300)
            while time.monotonic() < end:
                x = torch.nn.functional.normalize(x @ x)

        self.one_is_late(work)

    def test_native_code_that_holds_the_gil(self):
        self.one_is_late(lambda: ctypes.PyDLL(None).usleep(int(LONG_S * 1e6)))

    def test_other_process(self):
        self.one_is_late(lambda: subprocess.run(["sleep", str(LONG_S)], check=True))

    def test_condition_of_another_thread(self):
        event = threading.Event()
        timer = threading.Timer(LONG_S, event.set)
        timer.start()
        self.one_is_late(event.wait)
        timer.join()

    def test_another_thread_issues_the_collective(self):
        self.init_process_group()
        x = torch.ones(2)

        def late():
            time.sleep(LONG_S)
            dist.all_reduce(x)

        if self.rank == 1:
            thread = threading.Thread(target=late)
            thread.start()
            # The main thread waits in a collective of its own group meanwhile.
            thread.join()
        else:
            dist.all_reduce(x)
        self.assertEqual(x, torch.full((2,), 2.0))

    def test_key_of_the_store(self):
        self.init_process_group()
        store = dist.distributed_c10d._get_default_store()
        if self.rank == 1:
            time.sleep(LONG_S)
            store.set("late", "x")
        self.assertEqual(store.get("late"), b"x")

    def test_rendezvous(self):
        if self.rank == 1:
            time.sleep(LONG_S)
        self.init_process_group()
        dist.barrier()

    def test_point_to_point(self):
        self.init_process_group()
        x = torch.zeros(1)
        if self.rank == 1:
            time.sleep(LONG_S)
            dist.send(x + 7, 0)
        else:
            dist.recv(x, 1)
            self.assertEqual(x.item(), 7)

    def test_many_collectives(self):
        self.init_process_group()
        end = torch.tensor([time.monotonic() + LONG_S], dtype=torch.float64)
        dist.broadcast(end, 0)
        go_on = torch.ones(1)
        while go_on.item():
            go_on.fill_(float(self.rank or time.monotonic() < end.item()))
            dist.all_reduce(go_on, op=dist.ReduceOp.MIN)

    def test_wait_with_a_timeout(self):
        """Both wait for what never comes, and mean to."""
        self.init_process_group(timeout=datetime.timedelta(seconds=LONG_S))
        if self.rank == 0:
            with self.assertRaises(RuntimeError):
                dist.all_reduce(torch.ones(1))
        else:
            time.sleep(2 * LONG_S)

    def test_recv_of_a_group_that_gives_up(self):
        self.init_process_group()
        group = dist.new_group(timeout=datetime.timedelta(seconds=LONG_S))
        if self.rank == 0:
            with self.assertRaises(RuntimeError):
                dist.recv(torch.ones(1), src=1, group=group)
        dist.barrier()

    def test_the_first_one_gives_up(self):
        """Both sit in collectives that differ; one is caught by the test."""
        self.init_process_group()
        group = dist.new_group(timeout=datetime.timedelta(seconds=LONG_S))
        if self.rank == 0:
            with self.assertRaises(RuntimeError):
                dist.all_reduce(torch.ones(1), group=group)
        dist.barrier()

    def test_monitored_barrier(self):
        self.init_process_group()
        if self.rank == 0:
            with self.assertRaises(RuntimeError):
                dist.monitored_barrier(timeout=datetime.timedelta(seconds=LONG_S))
        else:
            time.sleep(2 * LONG_S)

    def test_lock_file(self):
        """A wait of the test's own making."""
        self.init_process_group()
        if self.rank == 1:
            time.sleep(LONG_S)
            with open(self.file_name + ".done", "w"):
                pass
        else:
            end = time.monotonic() + 60
            while time.monotonic() < end:
                try:
                    open(self.file_name + ".done").close()
                    break
                except FileNotFoundError:
                    time.sleep(0.05)
        dist.barrier()


class FourRanks(MultiProcessTestCase):
    world_size = 4

    def test_chain(self):
        """Each waits for the one before it, the first one computes."""
        self.init_process_group()
        x = torch.zeros(1)
        if self.rank == 0:
            time.sleep(LONG_S)
        else:
            dist.recv(x, self.rank - 1)
        if self.rank < 3:
            dist.send(x + 1, self.rank + 1)
        self.assertEqual(x.item(), self.rank)

    def test_groups_take_turns(self):
        """Two wait in a group of their own for one that is busy; two wait for all."""
        self.init_process_group()
        pair = dist.new_group([0, 1])
        if self.rank == 0:
            time.sleep(LONG_S)
        if self.rank < 2:
            dist.all_reduce(torch.ones(1), group=pair)
        dist.barrier()
