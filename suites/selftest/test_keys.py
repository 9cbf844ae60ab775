r"""Keys on a terminal while tests run: Ctrl-\ asks where they are, Ctrl-C stops the run."""

from __future__ import annotations

import os
import sys
import unittest
import uuid

import psutil

from suites.selftest.support import CommandTestCase, left_processes
from suites.selftest.terminal import Terminal

SUITE = """
    import os
    from harness import MultiProcessTestCase

    class TestWaits(MultiProcessTestCase):
        world_size = 2

        def wait_until_told(self):
            if self.rank == 1:
                print("up", file=open("up", "w"), flush=True)
                with open("go") as pipe:
                    pipe.readline()

        def test_a(self):
            self.wait_until_told()

        def test_b(self):
            self.wait_until_told()
"""
CTRL_C, CTRL_BACKSLASH = "\x03", "\x1c"
HELPERS = ("multiprocessing.forkserver", "multiprocessing.resource_tracker")


class TestKeys(CommandTestCase):
    def start(self, jobs):
        """The runner, once a rank of its first test waits."""
        self.write("test_waits.py", SUITE)
        for name in ("up", "go"):
            (self.folder / name).unlink(missing_ok=True)
            os.mkfifo(self.folder / name)
        self.sandbox.mark = uuid.uuid4().hex
        env = self.sandbox.environ({"TERM": "dumb"})
        command = (sys.executable, "-m", "harness", "--no-history", "-j", jobs)
        terminal = Terminal(*command, cwd=self.folder, env=env)
        self.addCleanup(terminal.end)
        self.wait_until_up()
        return terminal

    def wait_until_up(self):
        self.assertEqual((self.folder / "up").read_text(), "up\n")

    def let_go(self):
        (self.folder / "go").write_text("go\n")

    def helpers(self, terminal):
        """The process ids of the fork servers and the resource tracker of the runner."""
        children = psutil.Process(terminal.pid).children()
        lines = {child.pid: " ".join(child.cmdline()) for child in children}
        return {
            (name, pid) for pid, line in lines.items() for name in HELPERS if f"from {name}" in line
        }

    def assert_nothing_left(self, terminal):
        self.assertEqual(left_processes(self.sandbox.mark), [])
        self.assertEqual(list(self.temp.iterdir()), [])

    def test_where(self):
        for jobs in ("0", "1"):
            with self.subTest(jobs):
                terminal = self.start(jobs)
                helpers = self.helpers(terminal)
                self.assertEqual({name for name, _ in helpers}, set(HELPERS))
                for test in ("a", "b"):
                    terminal.type(CTRL_BACKSLASH)
                    terminal.expect(r"rank 1  runs +\S*test_waits.py:\d+ in wait_until_told")
                    self.let_go()
                    if test == "a":
                        self.wait_until_up()
                        self.assertEqual(self.helpers(terminal), helpers)
                terminal.expect(r"\n2 passed, 0 failed, 0 skipped\r\n$")
                self.assertEqual(terminal.close(), 0)
                self.assertNotIn("resource_tracker", terminal.text)
                self.assert_nothing_left(terminal)

    def test_stop(self):
        for jobs in ("0", "1"):
            with self.subTest(jobs):
                terminal = self.start(jobs)
                terminal.type(CTRL_C)
                terminal.expect(r"interrupted\r\n")
                self.assertEqual(terminal.close(), 1)
                self.assert_nothing_left(terminal)

    def test_stop_at_once(self):
        for jobs in ("0", "1"):
            with self.subTest(jobs):
                terminal = self.start(jobs)
                terminal.type(CTRL_C + CTRL_C)
                terminal.expect(r" failed, 0 skipped\r\n")
                self.assertEqual(terminal.close(), 1)
                self.assert_nothing_left(terminal)


if __name__ == "__main__":
    unittest.main()
