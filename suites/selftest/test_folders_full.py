"""A temp folder without room: one sentence says which folder, and nothing is left."""

from __future__ import annotations

import os
import shutil
import sys
import unittest

from suites.selftest.support import CommandTestCase, Finished
from suites.selftest.test_folders import QUICK

LOUD = """
from harness import MultiProcessTestCase


class TestLoud(MultiProcessTestCase):
    world_size = 2

    def test(self):
        for _ in range(10_000):
            print("x" * 99)
"""


@unittest.skipUnless(os.getuid() == 0 and shutil.which("unshare"), "mounts need root")
class TestTempFoldersWithoutRoom(CommandTestCase):
    """A file system in a mount namespace of the command's own, as its temp folder."""

    def run_in(self, options: str, *command: str) -> Finished:
        script = 'mount -t tmpfs -o "$1" none "$TMPDIR" || exit 99; shift; exec "$@"'
        finished = self.run_command("unshare", "-m", "sh", "-c", script, "sh", options, *command)
        if finished.code == 99:
            self.skipTest("this process may not mount")
        return finished

    def test_a_folder_that_cannot_be_used_is_passed_over(self):
        """As Python's tempfile does, which then takes /tmp."""
        self.write("test_quick.py", QUICK)
        command = (sys.executable, "-m", "harness", "--no-history", "test_quick.py")
        full = ("sh", "-c", 'head -c 4096 /dev/zero >"$TMPDIR/rest"; exec "$@"', "sh")
        missing = str(self.temp / "missing")
        for how, finished in (
            ("read-only", self.run_in("ro", *command)),
            ("full", self.run_in("size=4k", *full, *command)),
            ("missing", self.run_command(*command, TMPDIR=missing)),
        ):
            with self.subTest(how):
                told = finished.out + finished.err
                self.assertEqual((finished.code, finished.err), (0, ""), told)
                self.assertEqual(finished.last_line, "1 passed, 0 failed, 0 skipped")
                self.assertEqual(finished.left_processes, [])
                self.assertFalse(os.path.exists(missing))

    def test_ranks_that_print_more_than_there_is_room_for(self):
        """A rank fails in the line that prints, and the report has what had room."""
        self.write("test_loud.py", LOUD)
        for words in (("-m", "unittest"), ("-m", "harness", "--no-history")):
            with self.subTest(words=words):
                finished = self.run_in("size=200k", sys.executable, *words, "test_loud.py")
                told = finished.out + finished.err
                self.assertEqual(finished.code, 1, told)
                self.assertRegex(told, r"\nranks? .*: OSError: .* No space left on device\n")
                self.assertIn('print("x" * 99)', told)
                self.assertRegex(
                    told, r"rank [01] stdout \((last 20 of )?\d+ lines?\)\n    x{99}\n"
                )
                self.assertNotIn("harness/ranks/", told)
                self.assertEqual(finished.left_processes, [])

    def test_each_number_of_inodes_gives_one_sentence(self):
        """As many as there are, one thing more cannot be made, until there are enough."""
        self.write("test_quick.py", QUICK)
        python = sys.executable
        # 1 is for the root; with none left, Python itself passes the folder over.
        for inodes in (3, 6, 10):
            for words in (("-m", "unittest", "-q"), ("-m", "harness", "--no-history")):
                with self.subTest(inodes=inodes, words=words):
                    finished = self.run_in(
                        f"nr_inodes={inodes},mode=1777", python, *words, "test_quick.py"
                    )
                    told = finished.out + finished.err
                    self.assertNotEqual(finished.code, 0, told)
                    rule = (
                        r"cannot make .* in .*: No space left on device; set TMPDIR to a writable"
                    )
                    self.assertRegex(told, rule)
                    self.assertNotIn("harness/ranks/", told)
                    self.assertEqual(finished.left_processes, [])
