r"""Keys on a terminal while tests run: Ctrl-\ asks where they are, Ctrl-C stops the run."""

from __future__ import annotations

import os
import sys
import time
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
CTRL_C, CTRL_BACKSLASH, CTRL_Z = "\x03", "\x1c", "\x1a"

# A shell that knows one job: its arguments, in the foreground, continued by a line.
SHELL = """
import os, signal, sys, termios
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
before = termios.tcgetattr(0)
pid = os.fork()
if pid == 0:
    os.setpgid(0, 0)
    os.tcsetpgrp(0, os.getpgrp())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    os.execv(sys.argv[1], sys.argv[1:])
while True:
    _, status = os.waitpid(pid, os.WUNTRACED)
    os.tcsetpgrp(0, os.getpgrp())
    if not os.WIFSTOPPED(status):
        break
    print("stopped", flush=True)
    sys.stdin.readline()
    os.tcsetpgrp(0, pid)
    os.killpg(pid, signal.SIGCONT)
print("settings kept:", termios.tcgetattr(0) == before)
sys.exit(os.waitstatus_to_exitcode(status))
"""
# For a test, and for how long the run is stopped.
LIMIT_S, STOPPED_S = 15, 18
HELPERS = ("multiprocessing.forkserver", "multiprocessing.resource_tracker")


class TestKeys(CommandTestCase):
    def start(self, jobs, *options):
        """The runner, started by a shell, once a rank of its first test waits."""
        self.write("test_waits.py", SUITE)
        for name in ("up", "go"):
            (self.folder / name).unlink(missing_ok=True)
            os.mkfifo(self.folder / name)
        self.sandbox.mark = uuid.uuid4().hex
        env = self.sandbox.environ({"TERM": "dumb"})
        shell = (sys.executable, "-c", SHELL)
        run = (sys.executable, "-m", "harness", "--no-history", "--max-ranks", "2", "-j", jobs)
        command = (*shell, *run, *options)
        terminal = Terminal(*command, cwd=self.folder, env=env)
        self.addCleanup(terminal.end)
        self.wait_until_up()
        return terminal

    def runner(self, terminal):
        return psutil.Process(terminal.pid).children()[0]

    def wait_until_up(self):
        self.assertEqual((self.folder / "up").read_text(), "up\n")

    def let_go(self):
        (self.folder / "go").write_text("go\n")

    def helpers(self, terminal):
        """The process ids of the fork servers and the resource tracker of the runner."""
        children = self.runner(terminal).children()
        lines = {child.pid: " ".join(child.cmdline()) for child in children}
        return {
            (name, pid) for pid, line in lines.items() for name in HELPERS if f"from {name}" in line
        }

    def end_well(self, terminal, code):
        """The run ends with this code, and leaves nothing behind, on the terminal either."""
        terminal.expect("settings kept: True")
        self.assertEqual(terminal.close(), code)
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
                    terminal.expect(r"rank 1  running +\S*test_waits.py:\d+ in wait_until_told")
                    self.let_go()
                    if test == "a":
                        self.wait_until_up()
                        self.assertEqual(self.helpers(terminal), helpers)
                terminal.expect(r"\n2 passed, 0 failed, 0 skipped\r\n")
                self.end_well(terminal, 0)
                self.assertNotIn("resource_tracker", terminal.text)

    def test_stop(self):
        for jobs in ("0", "1"):
            with self.subTest(jobs):
                terminal = self.start(jobs)
                terminal.type(CTRL_C)
                terminal.expect(r"interrupted\r\n")
                self.end_well(terminal, 1)

    def test_stop_at_once(self):
        for jobs in ("0", "2"):
            for times in (2, 3):
                with self.subTest(jobs=jobs, times=times):
                    terminal = self.start(jobs)
                    terminal.type(CTRL_C * times)
                    terminal.expect(r" failed, 0 skipped\r\n")
                    self.end_well(terminal, 1)
                    self.assertNotIn("Traceback", terminal.text)

    def test_suspend(self):
        """Ctrl-Z stops the run, and the time until it is continued is no test's time."""
        for jobs in ("0", "2"):
            with self.subTest(jobs=jobs):
                terminal = self.start(jobs, "--timeout", str(LIMIT_S))
                terminal.type(CTRL_Z)
                terminal.expect("stopped")
                self.assertEqual(self.runner(terminal).status(), psutil.STATUS_STOPPED)
                time.sleep(STOPPED_S)
                terminal.say("fg")
                self.let_go()
                self.wait_until_up()
                self.let_go()
                terminal.expect(r"\n2 passed, 0 failed, 0 skipped\r\n")
                self.end_well(terminal, 0)


if __name__ == "__main__":
    unittest.main()
