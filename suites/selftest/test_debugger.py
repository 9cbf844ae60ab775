"""breakpoint() in a rank, from a terminal and without one."""

from __future__ import annotations

import os
import sys
import time
import unittest
from unittest import mock

from suites.samples import together
from suites.selftest.support import ROOT, CommandTestCase, run_case
from suites.selftest.terminal import Terminal


class TestOnATerminal(unittest.TestCase):
    def start(self, *command):
        env = {**os.environ, "TERM": "dumb"}
        terminal = Terminal(sys.executable, *command, cwd=ROOT, env=env)
        self.addCleanup(terminal.end)
        return terminal

    def test_one_rank_under_pytest(self):
        terminal = self.start(
            *["-m", "pytest", "-q", "-p", "no:cacheprovider"],
            "suites/samples/together.py::Debugged::test_breakpoint",
        )
        terminal.expect(r"\(Pdb rank 1\) ")
        terminal.say("p self.rank, x")
        terminal.expect(r"\(1, tensor\(\[2., 2.\]\)\)")
        terminal.expect(r"\(Pdb rank 1\) ")
        time.sleep(1.5)  # longer than the test may take
        if sys.version_info >= (3, 13):  # stops at breakpoint() itself rather than after it
            terminal.say("n")
            terminal.expect(r"\(Pdb rank 1\) ")
        terminal.say("n")  # into the collective for which rank 0 waits, and out of it
        terminal.expect(r"\(Pdb rank 1\) ")
        terminal.say("p x")
        terminal.expect(r"tensor\(\[3., 3.\]\)")
        terminal.say("c")
        terminal.expect("1 passed")
        self.assertEqual(terminal.close(), 0)

    def test_ranks_take_turns(self):
        terminal = self.start("run_tests.py", "suites.samples.together.Debugged.test_all_at_once")
        for _ in range(4):  # each rank stops twice
            rank = int(terminal.expect(r"\(Pdb rank (\d)\) ")[1])
            terminal.say("p answer")
            terminal.expect(str(40 + rank))
            terminal.expect(rf"\(Pdb rank {rank}\) ")
            terminal.say("c")
        terminal.expect("1 passed, 0 failed, 0 skipped")
        self.assertEqual(terminal.close(), 0)

    def test_quitting(self):
        terminal = self.start("run_tests.py", "suites.samples.together.Debugged.test_breakpoint")
        terminal.expect(r"\(Pdb rank 1\) ")
        terminal.say("q")
        terminal.expect("rank 1: bdb.BdbQuit")
        terminal.expect("0 passed, 1 failed, 0 skipped")
        self.assertEqual(terminal.close(), 1)


class TestWithoutATerminal(CommandTestCase):
    def test_the_message(self):
        test = "suites.samples.together.Debugged.test_breakpoint"
        # In a session of its own, whatever this one has.
        finished = self.run_command("setsid", "--wait", sys.executable, "-m", "harness", test)
        self.assertIn("breakpoint(): no terminal is available", finished.out)
        self.assertEqual(finished.last_line, "0 passed, 1 failed, 0 skipped")
        self.assertEqual(finished.left_processes, [])

    def test_switched_off(self):
        os.environ["PYTHONBREAKPOINT"] = "0"
        self.addCleanup(os.environ.pop, "PYTHONBREAKPOINT")
        with mock.patch.object(together.Debugged, "timeout_s", 60.0):
            result = run_case(together.Debugged, "test_breakpoint")
        self.assertEqual(result.status, "passed", result.text)
