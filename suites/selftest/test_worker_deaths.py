"""Workers that die, hang or never start: what the report says, and what runs afterwards."""

from __future__ import annotations

from suites.selftest.support import CommandTestCase


class TestDeaths(CommandTestCase):
    """A worker that dies is replaced, and its test reported."""

    def test_every_way_to_die(self):
        self.write(
            "test_die.py",
            """
            import os, signal, sys, unittest, threading, time
            class TestDie(unittest.TestCase):
                def test_exit_0(self): os._exit(0)
                def test_exit_3(self): os._exit(3)
                def test_fine(self): pass
                def test_kill(self):
                    print("last words", flush=True)
                    os.kill(os.getpid(), signal.SIGKILL)
                def test_segv(self): os.kill(os.getpid(), signal.SIGSEGV)
                def test_sys_exit(self): sys.exit(0)
        """,
        )
        for jobs in ("1", "3"):
            done = self.harness("-j", jobs)
            self.assertEqual((done.code, done.last_line), (1, "1 passed, 5 failed, 0 skipped"))
            for text in ("exit code 0", "exit code 3", "SIGKILL", "SIGSEGV", "last words"):
                self.assertIn(text, done.out)
            self.assert_clean(done)

    def test_a_worker_whose_words_cannot_be_read(self):
        self.write(
            "test_garbage.py",
            """
            import os, struct, time, unittest
            def write_to_the_runners_socket(data):
                for name in os.listdir("/proc/self/fd"):
                    try:
                        if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                            os.write(int(name), data)
                    except OSError:
                        pass
                time.sleep(1000)
            class TestGarbage(unittest.TestCase):
                def test_a(self): write_to_the_runners_socket(b"[" * 100)
                def test_b(self): pass
                def test_c(self):
                    body = b'{"kind": "Ended", "record": {}}'
                    write_to_the_runners_socket(struct.pack(">Q", len(body)) + body)
        """,
        )
        done = self.harness("-j", "1")
        self.assertEqual((done.code, done.last_line), (1, "1 passed, 2 failed, 0 skipped"), done)
        self.assertRegex(done.out, "it sent invalid data: a frame of [0-9]+ bytes; the limit")
        self.assertRegex(done.out, "it sent invalid data: an unknown message: .*Ended")
        self.assert_clean(done)

    def test_a_worker_that_dies_after_its_tests(self):
        self.write(
            "test_after.py",
            """
            import atexit, os, unittest
            class TestAfter(unittest.TestCase):
                def test(self): atexit.register(os._exit, 7)
        """,
        )
        done = self.harness("-j", "2")
        self.assertEqual((done.code, done.last_line), (1, "1 passed, 1 failed, 0 skipped"))
        self.assertIn("exit code 7", done.out)

    def test_the_fork_server_dies(self):
        self.write(
            "test_server.py",
            """
            import os, signal, unittest
            class TestServer(unittest.TestCase):
                def test_a(self): os.kill(os.getppid(), signal.SIGKILL)
            for name in "bcdef":
                setattr(TestServer, f"test_{name}", lambda self: None)
        """,
        )
        for jobs in ("1", "3"):
            done = self.harness("-j", jobs)
            self.assertEqual((done.code, done.last_line), (0, "6 passed, 0 failed, 0 skipped"))

    def test_ranks_of_a_worker_that_dies_end(self):
        self.write(
            "test_orphans.py",
            """
            import os, signal, time, unittest
            from harness import MultiProcessTestCase
            class TestOrphans(MultiProcessTestCase):
                world_size = 2
                def setUp(self):
                    super().setUp()
                    self._spawn_processes()
                    os.kill(os.getpid(), signal.SIGKILL)
                def test(self): time.sleep(600)
        """,
        )
        done = self.harness("-j", "2")
        self.assertEqual((done.code, done.last_line), (1, "0 passed, 1 failed, 0 skipped"))
        self.assert_clean(done)

    def test_importing_ends_the_process(self):
        self.write("test_exit.py", "import os\nos._exit(5)\n")
        done = self.harness("-j", "2")
        self.assertEqual(done.code, 2)
        self.assertIn("exit code 5", done.err)
        self.assertIn("a test module must not exit while it is imported", done.err)

    def test_killed_while_importing(self):
        for name, says in (
            ("SIGKILL", "was killed by SIGKILL: if nobody sent it, the machine may have run out"),
            ("SIGSEGV", "was killed by SIGSEGV, while it imported a test module"),
        ):
            with self.subTest(signal=name):
                text = f"import os, signal\nos.kill(os.getpid(), signal.{name})\n"
                self.write("test_killed.py", text)
                done = self.harness("-j", "2")
                self.assertEqual(done.code, 2)
                self.assertIn(f"the process that imported the tests {says}", done.err)
                self.assertNotIn("do not exit", done.err)
