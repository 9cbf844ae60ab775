"""Where a harness is tempted to call something passed that is not, or lost that is not."""

from __future__ import annotations

import os
import signal
import sys
import unittest
from unittest import mock

import psutil

from harness.model.clock import Deadline
from harness.model.errors import StartError
from harness.model.marks import serial
from harness.ranks.launch.fork_server import ForkServer
from harness.ranks.launch.launcher import Launcher, launcher
from harness.ranks.launch.preload_plan import PreloadPlan
from suites.samples import edges
from suites.selftest.support import new_folder, run_case


class TestEdges(unittest.TestCase):
    def run_one(self, cls, method, status, *texts, **env):
        with mock.patch.dict(os.environ, {"HARNESS_START_METHOD": "forkserver", **env}):
            result = run_case(cls, method)
        self.assertEqual(result.status, status, result.text)
        for text in texts:
            self.assertIn(text, result.text)
        return result

    def test_exiting_has_its_own_time(self):
        self.run_one(edges.Leaving, "test_thread_that_ends_late", "passed")
        self.run_one(edges.Leaving, "test_idle_pool_of_threads", "passed")

    def test_what_happens_while_exiting_counts(self):
        self.run_one(
            edges.Leaving,
            "test_death_in_a_late_exit_handler",
            "error",
            "rank 1: exited with code 3 after its body passed",
        )
        self.run_one(
            edges.Leaving,
            "test_thread_that_never_ends",
            "error",
            "passed, but did not exit within 2 s",
            HARNESS_EXIT_TIMEOUT="2",
        )

    def test_what_cannot_be_read_is_a_fault_of_its_rank(self):
        for method, what in (
            ("test_no_frame", r"a frame of \d+ bytes; the limit is \d+"),
            ("test_no_message", r"a frame that is not a message with a kind: b'\[\]'"),
            (
                "test_no_outcome",
                r"an unknown message: \{'kind': 'Report', 'outcome': 5\} \(Expected `object`",
            ),
        ):
            with self.subTest(method):
                result = self.run_one(edges.Garbage, method, "error")
                self.assertRegex(
                    result.text, f"rank 1: lost: the harness cannot read its messages: {what}"
                )

    def test_an_echo_is_not_the_cause_though_it_is_heard_first(self):
        self.run_one(
            edges.DyingLate,
            "test_its_peer_is_heard_first",
            "error",
            "1 of 2 ranks killed by SIGKILL (rank 0 lost its peer)",
        )
        self.run_one(
            edges.DyingLate,
            "test_nobody_dies",
            "error",
            "1 of 2 ranks raised an exception (rank 1 still running)",
        )

    @serial  # the server is the ranks' of all tests that run meanwhile
    def test_a_killed_server_is_no_exit_code(self):
        for method in ("test_server_is_killed", "test_any_exit_code"):
            result = self.run_one(edges.NoServer, method, "error", "the fork server died")
            self.assertNotIn("exited with code", result.text)
            self.assertEqual(_ranks_of_this_process(), [])
        # The next test gets a new server.
        self.run_one(edges.Leaving, "test_idle_pool_of_threads", "passed")

    def test_exit_codes_that_are_meant(self):
        self.run_one(edges.ExitCodes, "test_as_meant", "passed")
        self.run_one(edges.ExitCodes, "test_usual_code", "passed")
        self.run_one(edges.ExitCodes, "test_usual_code_too_early", "error", "exited with code 0")
        result = self.run_one(
            edges.ExitCodes, "test_as_meant_but_not_on_rank_1", "error", "ValueError: rank 1"
        )
        self.assertIn("1 of 2 ranks raised an exception", result.text)

    def test_an_expected_failure_needs_ranks_that_fail(self):
        self.run_one(edges.ExpectedFailureWithoutRanks, "test_no_ranks", "error", "WorldSizeError")
        self.run_one(edges.ExpectedFailureWithBadTimeout, "test_bad_timeout", "error", "timeout")


def _ranks_of_this_process():
    """Processes of our session that are neither servers nor gone."""
    from harness.ranks import folders

    session = str(folders.session_folder())
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and session in process.environ().get(
                "HARNESS_WORLD", ""
            ):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


class TestServers(unittest.TestCase):
    def test_one_after_the_other(self):
        plan = launcher()._plan()
        before = psutil.Process().num_fds()
        for _ in range(3):
            server = ForkServer(plan)
            server.kill()
            del server
        self.assertEqual(psutil.Process().num_fds(), before)

    def test_one_that_is_stopped_is_not_waited_for(self):
        with mock.patch.dict(os.environ, HARNESS_START_METHOD="forkserver"):
            for text in ("", "more than a pipe can hold" * 10_000):
                with self.subTest(len(text)):
                    self.check_stopped(text)

    def check_stopped(self, text):
        mine = Launcher()
        self.addCleanup(lambda: mine._discard(mine._active))
        make = mine.factory(Deadline.after(60))
        os.kill(mine._active.stdlib_server._forkserver_pid, signal.SIGSTOP)
        process = make(target=len, name="rank 7", args=(text,))
        words = r"did not start rank 7 within 0.2 s \(HARNESS_START_TIMEOUT\)"
        late = mock.patch.dict(os.environ, HARNESS_START_TIMEOUT="0.2")
        with late, self.assertRaisesRegex(StartError, words):
            process.start()
        self.assertFalse(mine._active.alive)
        # The next test gets a new server.
        process = mine.factory(Deadline.after(60))(target=len, args=(text,))
        process.start()
        process.join(60)
        self.assertEqual(process.exitcode, 0)

    def test_modules_see_the_environment_in_which_the_parent_imported_them(self):
        mine = Launcher()
        with mock.patch.dict(os.environ, SAMPLE="then", SAMPLE_GONE="here"):
            mine.need(["colorsys"])
        with mock.patch.dict(os.environ, SAMPLE="now", SAMPLE_NEW="there"):
            server = mine._new_server(PreloadPlan(("colorsys",), sys_path=tuple(sys.path)))
            self.addCleanup(mine._discard, server)
            self.assertIn("colorsys", server.report(Deadline.after(60)).imported)
            pid = server.stdlib_server._forkserver_pid
            found = psutil.Process(pid).environ()
            self.assertEqual(os.environ["SAMPLE"], "now")
        self.assertEqual(found["SAMPLE"], "then")
        self.assertEqual(found["SAMPLE_GONE"], "here")
        self.assertNotIn("SAMPLE_NEW", found)

    def test_a_new_server_does_without_what_made_the_last_one_unsafe(self):
        """Ranks import modules that a server must not; that one dies does not make them wait."""
        folder = str(new_folder(self))
        with open(os.path.join(folder, "busy_module.py"), "w") as file:
            print(
                "import threading; threading.Thread(target=input, daemon=True).start()", file=file
            )
        mine = Launcher()
        self.addCleanup(lambda: mine._discard(mine._active))
        with mock.patch.object(sys, "path", [folder, *sys.path]):
            mine.factory(Deadline.after(60))
            mine.learn(["busy_module"])
            first = mine._active
            first.kill()
            self.assertFalse(mine._active.alive)
            self.assertEqual(mine.why_not_to_fork(Deadline.after(60)), "")
            self.assertIsNot(mine._active, first)
