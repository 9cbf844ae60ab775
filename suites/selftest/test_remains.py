"""What a test may leave and show to others: no process, no file, no open door, no growth."""

from __future__ import annotations

import gc
import io
import ipaddress
import os
import re
import subprocess
import sys
import tempfile
import threading
import unittest
import warnings
from pathlib import Path
from select import PIPE_BUF
from unittest import mock

import psutil

from harness.ranks import folders
from harness.ranks.leftovers import LeftoverFinder
from harness.ranks.live_output import LiveStream
from suites.samples import faults, sound
from suites.selftest.support import ROOT, CommandTestCase, InProcess, run_case


class TestWhileItRuns(InProcess):
    METHOD = "forkserver"

    def test_nothing_listens_but_on_loopback(self):
        for text in self.passes(
            sound.Recording, "test_listeners", HARNESS_START_METHOD=self.METHOD
        ):
            self.assertTrue(text, "a rank in a process group listens somewhere")
            for address in text.splitlines():
                self.assertTrue(ipaddress.ip_address(address).is_loopback, address)
        ours = psutil.Process().net_connections("inet")
        for connection in ours:
            if connection.status == psutil.CONN_LISTEN:
                self.assertTrue(ipaddress.ip_address(connection.laddr.ip).is_loopback, connection)

    def test_files_are_the_users_alone(self):
        env = {"HARNESS_START_METHOD": self.METHOD}
        (text, _) = self.passes(sound.Recording, "test_files", **env)
        found = [line.split(" ", 1) for line in text.splitlines()]
        names = {Path(path).name for _, path in found}
        self.assertLessEqual({"store", "rank0.stdout", "rank1.stderr", "tmp"}, names)
        folder = Path(found[0][1])
        self.assertEqual(folder, folders.session_folder())
        # What is below a folder that only its owner may enter is out of others' reach.
        self.assertEqual([mode for mode, _ in found[:2]], ["700", "700"])
        own = [mode for mode, path in found if Path(path).name.startswith("rank")]
        self.assertEqual(set(own), {"600"})

    def test_temp_files_of_ranks_go_with_the_test(self):
        for path in self.passes(
            sound.Recording, "test_temp_folder", HARNESS_START_METHOD=self.METHOD
        ):
            self.assertTrue(path.startswith(str(folders.session_folder())), path)
            self.assertFalse(os.path.exists(path))
            self.assertLess(len(os.path.dirname(path)), 80, "sockets need short paths")

    def test_timeouts_in_ranks(self):
        env = {"HARNESS_START_METHOD": self.METHOD, "DISTRIBUTED_TESTS_DEFAULT_TIMEOUT": "44"}
        for cls, method, limit in (
            (sound.Recording, "test_timeouts", 44),
            (sound.WithTimeout, "test_timeouts", 22),
            (sound.WithTimeout, "test_timeouts_of_a_decorator", 11),
        ):
            with self.subTest(cls=cls, method=method):
                # The group of a rank waits longer than anybody sits in a debugger.
                expected = f"{limit} {limit + 24 * 3600}"
                self.assertEqual(self.passes(cls, method, **env), [expected] * 2)


class TestWhileSpawnedRanksRun(TestWhileItRuns):
    """Slow: each test starts interpreters that import torch."""

    METHOD = "spawn"


class TestLeaks(unittest.TestCase):
    def run_leaking(self, method, **env):
        with mock.patch.dict(os.environ, env), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result = run_case(faults.Faults, method)
        return result, [w for w in caught if w.category.__name__ == "ProcessLeakWarning"]

    def test_a_warning_at_the_tests_own_line(self):
        result, caught = self.run_leaking("test_leaves_process")
        self.assertEqual(result.status, "passed", result.text)
        (warning,) = caught
        self.assertRegex(str(warning.message), r"rank 1 left process \d+ running: sleep 10000")
        line = Path(warning.filename).read_text().splitlines()[warning.lineno - 1]
        self.assertIn("def test_leaves_process", line)
        pid = int(re.search(r"process (\d+)", str(warning.message))[1])
        self.assertFalse(_runs(pid))

    def test_an_error_with_the_switch(self):
        result, caught = self.run_leaking("test_leaves_daemon", HARNESS_LEAKS="error")
        self.assertEqual(result.status, "error")
        self.assertEqual(caught, [])
        self.assertIn("harness.ProcessLeakError", result.text)
        self.assertIn("left process", result.text)

    def test_in_the_midst_of_an_exec(self):
        """Then a process has neither its old environment nor its new one."""
        watch = LeftoverFinder(str(folders.session_folder() / "a world"))
        with watch.marked():
            process = subprocess.Popen(["sleep", "10000"], start_new_session=True)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        environ = psutil.Process.environ
        seen = set()

        def at_second_sight(of):
            first = of.pid not in seen
            seen.add(of.pid)
            return {} if first else environ(of)

        with mock.patch.object(psutil.Process, "environ", at_second_sight):
            (left,) = watch.end({}, 0.0)
        self.assertEqual((left.pid, left.command), (process.pid, "sleep 10000"))

    def test_none_without_a_leak(self):
        result, caught = self.run_leaking("test_unittest_as_usual", HARNESS_LEAKS="error")
        self.assertEqual((result.status, caught), ("passed", []))


def _runs(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class TestKeptFiles(CommandTestCase):
    def test_only_of_trouble(self):
        self.write(
            "test_kept.py",
            """
            from harness import MultiProcessTestCase

            class TestKept(MultiProcessTestCase):
                world_size = 2

                def test_good(self):
                    print("good")

                def test_bad(self):
                    print("a word of rank", self.rank)
                    self.init_process_group()  # now both have said it
                    assert False
            """,
        )
        finished = self.harness("test_kept.py", HARNESS_KEEP_FOLDERS="1")
        self.assertEqual(finished.code, 1)
        kept = Path(re.search(r"^files: (.*)$", finished.out, re.MULTILINE)[1])
        self.assertEqual((kept / "rank1.stdout").read_text(), "a word of rank 1\n")
        self.assertEqual([p.name for p in self.temp.iterdir()], [kept.name])


class TestLiveOutput(CommandTestCase):
    SUITE = """
        import os
        from harness import MultiProcessTestCase

        class TestLive(MultiProcessTestCase):
            world_size = 2

            def test_loud(self):
                print("python", self.rank)
                os.write(2, b"native \\xff\\n")
                print("no end of line", end="")
                self.assertEqual(self.rank, 0)
        """

    def test_every_line_has_its_rank(self):
        self.write("test_live.py", self.SUITE)
        finished = self.harness("-s", "test_live.py")
        for rank in (0, 1):
            self.assertIn(f"[rank {rank}] python {rank}\n", finished.out)
            self.assertIn(f"[rank {rank}] no end of line\n", finished.out)
            self.assertIn(f"[rank {rank}] native \\xff\n", finished.err)
        # The report of the failure has it too.
        self.assertIn("rank 1 stdout (2 lines)\n    python 1\n    no end of line", finished.out)
        self.assert_clean(finished)

    def test_under_unittest(self):
        self.write("test_live.py", self.SUITE)
        finished = self.run_command(
            sys.executable, "-m", "unittest", "test_live", HARNESS_LIVE_OUTPUT="1"
        )
        self.assertIn("[rank 1] python 1\n", finished.out)

    def test_each_write_is_of_whole_lines_that_a_pipe_takes_at_once(self):
        """So nothing that another process prints to the same pipe lands in a line."""
        writes = []

        class Raw(io.RawIOBase):
            def writable(self):
                return True

            def write(self, data):
                writes.append(bytes(data))
                return len(data)

        out = io.TextIOWrapper(io.BufferedWriter(Raw()), encoding="latin-1", write_through=True)
        lines = [f"{n} é ☃".encode() * (n % 50) for n in range(2000)]
        with tempfile.TemporaryDirectory() as folder, mock.patch("sys.stdout", out):
            stream = LiveStream(folder, 0, "stdout")
            for n in range(0, len(lines), 20):
                os.write(stream.for_rank.fileno(), b"\n".join(lines[n : n + 20]) + b"\n")
                stream.pump()
            stream.end_of_test()
            stream.for_rank.close()
            stream.close()
        shown = [line.decode().replace("☃", "\\u2603").encode("latin-1") for line in lines]
        self.assertEqual(b"".join(writes), b"".join(b"[rank 0] %s\n" % line for line in shown))
        self.assertLessEqual(max(map(len, writes)), PIPE_BUF)
        self.assertEqual({data[-1:] for data in writes}, {b"\n"})

    def test_a_flood(self):
        """Slow: 200 MB from each of two ranks."""
        finished = self.run_command(
            sys.executable,
            str(ROOT / "run_tests.py"),
            "-s",
            "suites.samples.faults.Faults.test_flood",
        )
        self.assertEqual(finished.code, 0, finished.err)
        for rank in (0, 1):
            count = finished.out.count(f"[rank {rank}] xxxxxxxxx")
            self.assertEqual(count, 2_000_000)


class TestSoak(unittest.TestCase):
    """Slow: tests in a row, good and bad ones; what the parent holds does not grow."""

    ROUNDS = 4
    MIX = (
        "test_unittest_as_usual",
        "test_sigkill",
        "test_assertion_rank_1",
        "test_skip_on_one_rank",
        "test_subtests",
        "test_death_in_exit_handler",
        "test_collateral",
        "test_daemon_thread",
        "test_leaves_process_and_dies",
    )

    def test_nothing_grows(self):
        self.round()
        before = held()
        for _ in range(self.ROUNDS):
            self.round()
        after = held()
        # Less is possible: a server that had been replaced has gone.
        for what, number in before.items():
            self.assertLessEqual(after[what], number, what)

    def round(self):
        for name in self.MIX:
            run_case(faults.Faults, name)


def held():
    """What this process holds: descriptors, threads, children, files of its session."""
    gc.collect()
    us = psutil.Process()
    children = [p for p in us.children(recursive=True) if p.status() != psutil.STATUS_ZOMBIE]
    files = [
        p.name for p in folders.session_folder().iterdir() if not p.name.startswith("forkserver")
    ]
    return {
        "fds": us.num_fds(),
        "threads": threading.active_count(),
        "children": len(children),
        "files": len(files),
    }
