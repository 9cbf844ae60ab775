"""Stores: they serve, they keep their timeout, they stay on this machine, they leave nothing."""

from __future__ import annotations

import os
import time
import unittest
from datetime import timedelta
from pathlib import Path

import psutil
from torch.distributed import DistStoreError, TCPStore

from harness import create_tcp_store, file_store, hash_store, tcp_store
from harness.ranks import folders

SHORT = timedelta(milliseconds=200)


def listening() -> set[tuple[str, int]]:
    """Where this process listens: addresses and ports."""
    connections = psutil.Process().net_connections(kind="inet")
    return {tuple(c.laddr) for c in connections if c.status == psutil.CONN_LISTEN}


class TestStores(unittest.TestCase):
    def test_each_keeps_what_it_is_given(self):
        for make in (hash_store, tcp_store, lambda: file_store(1)):
            with make() as store:
                store.set("key", "value")
                self.assertEqual(store.get("key"), b"value")
                self.assertEqual(store.add("count", 2), 2)

    def test_each_honours_its_timeout(self):
        for make in (
            lambda: hash_store(SHORT),
            lambda: tcp_store(timeout=SHORT),
            lambda: file_store(1, timeout=SHORT),
        ):
            started = time.monotonic()
            with make() as store, self.assertRaises(RuntimeError):
                store.get("never set")
            self.assertLess(time.monotonic() - started, 10)

    def test_tcp_store_waits_for_its_workers_no_longer_than_it_is_told(self):
        started = time.monotonic()
        with self.assertRaises(DistStoreError):
            create_tcp_store(world_size=2, timeout=SHORT)
        self.assertLess(time.monotonic() - started, 10)

    def test_tcp_store_is_found_by_its_port(self):
        with tcp_store() as server:
            client = TCPStore("127.0.0.1", server.port, is_master=False, timeout=SHORT)
            client.set("from", "client")
            self.assertEqual(server.get("from"), b"client")

    def test_two_tcp_stores_at_once(self):
        with tcp_store() as one, tcp_store() as two:
            self.assertNotEqual(one.port, two.port)
            one.set("key", "one")
            two.set("key", "two")
            self.assertEqual((one.get("key"), two.get("key")), (b"one", b"two"))

    def test_tcp_store_serves_on_the_loopback_address_only(self):
        before = listening()  # Not nothing, where earlier tests of this process left a server.
        with tcp_store() as store:
            store.set("key", "value")
            self.assertEqual(listening() - before, {("127.0.0.1", store.port)})
        self.assertEqual(listening(), before)

    def test_pytorchs_arguments(self):
        store = create_tcp_store("localhost", 1, True, SHORT, True, False, use_libuv=True)
        self.assertGreater(store.port, 0)
        with self.assertRaisesRegex(ValueError, "is_master=False"):
            create_tcp_store(is_master=False)
        with self.assertRaisesRegex(ValueError, "jit_class"):
            create_tcp_store(jit_class=True)

    def test_file_store_is_gone_with_its_block(self):
        before = sorted(folders.session_folder().iterdir())
        with file_store(1) as store:
            store.set("key", "value")
            path = Path(store.path)
            self.assertTrue(path.exists())
        self.assertEqual(sorted(folders.session_folder().iterdir()), before)

    def test_file_store_in_a_file_of_the_users(self):
        path = folders.session_folder() / "my file"
        with file_store(1, path) as store:
            store.set("key", "value")
            self.assertTrue(path.exists())
        self.assertFalse(path.exists())

    def test_many_tcp_stores_leave_no_descriptor(self):
        def use_one():
            with tcp_store() as store:
                store.set("key", "value")

        use_one()
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(20):
            use_one()
        self.assertLessEqual(len(os.listdir("/proc/self/fd")), before)
