"""The runner on a terminal: what runs, how far the run is, and failures as they happen."""

from __future__ import annotations

import os
import re
import sys
import unittest

from suites.selftest.support import CommandTestCase
from suites.selftest.terminal import Terminal

SUITE = """
    import os, unittest

    class TestIt(unittest.TestCase):
        def test_b_waits(self):
            with open(os.environ["GO"]) as file:
                file.read()

        def test_c(self):
            pass

    setattr(TestIt, "test_a[red]", lambda self: self.fail("as [bold]planned"))
"""


class TestLiveConsole(CommandTestCase):
    def start(self, *arguments, **env):
        self.write("test_it.py", SUITE)
        self.go = self.folder / "go"
        os.mkfifo(self.go)
        env = self.sandbox.environ({"TERM": "xterm", "GO": str(self.go), **env})
        command = (sys.executable, "-m", "harness", "-j", "1", "--no-history", *arguments)
        terminal = Terminal(*command, cwd=self.folder, env=env)
        self.addCleanup(terminal.end)
        return terminal

    def let_go(self):
        self.go.write_text("go")

    def test_while_it_runs_and_afterwards(self):
        terminal = self.start()
        # What looks like rich's markup is a name, and part of a text.
        terminal.expect(
            r"FAILED test_it\.TestIt\.test_a\[red\]  AssertionError: as \[bold\]planned"
        )
        terminal.expect(r"1 of 3")
        terminal.expect(r"1 failed")
        terminal.expect(r"\d\.\d s.*test_it\.TestIt\.test_b_waits")
        self.let_go()
        terminal.expect(r"test_it\.TestIt F\.\.")
        terminal.expect(r"\n2 passed, 1 failed, 0 skipped\r\n$")
        self.assertEqual(terminal.close(), 1)
        # The lines that showed what ran are gone: nothing is drawn after they have been erased.
        _, _, afterwards = terminal.text.rpartition("\x1b[2K")
        self.assertNotIn("test_b_waits", afterwards)
        self.assertNotRegex(afterwards, r"\d of 3")

    def test_too_narrow(self):
        terminal = self.start(COLUMNS="30")
        terminal.expect(r"test_it\.TestIt[^\s]*…")
        self.let_go()
        terminal.expect(r"2 passed, 1 failed, 0 skipped")
        self.assertEqual(terminal.close(), 1)

    def test_plain_where_nothing_can_be_drawn(self):
        for env in ({"TERM": "dumb"}, {"CI": "true"}):
            with self.subTest(env=env):
                terminal = self.start("-k", "test_c", **env)
                terminal.expect(r"1 passed, 0 failed, 0 skipped")
                self.assertEqual(terminal.close(), 0)
                self.assertIsNone(re.search("\x1b", terminal.text), terminal.text)
                self.go.unlink()


if __name__ == "__main__":
    unittest.main()
