"""Opens files when it is imported: every test finds them as its own import would have left them."""

from __future__ import annotations

import fcntl
import os
import tempfile
import unittest
from pathlib import Path

from harness import MultiProcessTestCase

FOLDER = Path(os.environ["SAMPLE_FILES"])

(FOLDER / "data.txt").write_text("one\ntwo\nthree\n")
TEXT = open(FOLDER / "data.txt")  # noqa: SIM115
BEGUN = open(FOLDER / "data.txt")  # noqa: SIM115
BEGUN.readline()
RAW = os.open(FOLDER / "data.txt", os.O_RDONLY)
DUPLICATE = os.dup(RAW)
LOCKED = os.open(FOLDER / "data.txt", os.O_RDONLY)
fcntl.flock(LOCKED, fcntl.LOCK_SH)
OUTPUT = open(FOLDER / f"output.{os.getpid()}", "w+")  # noqa: SIM115
OUTPUT.write("header\n")
OUTPUT.flush()
ADDED = open(FOLDER / f"added.{os.getpid()}", "a")  # noqa: SIM115
NAMELESS = tempfile.TemporaryFile()  # noqa: SIM115
NAMELESS.write(b"four\nfive\n")
NAMELESS.seek(0)
(FOLDER / f"gone.{os.getpid()}").write_text("six\nseven\n")
GONE = open(FOLDER / f"gone.{os.getpid()}")  # noqa: SIM115
(FOLDER / f"gone.{os.getpid()}").unlink()
INHERITED = os.open(FOLDER / "data.txt", os.O_RDONLY)
os.set_inheritable(INHERITED, True)
ENTRIES = os.open(FOLDER, os.O_RDONLY | os.O_DIRECTORY)
PLACE = os.open(FOLDER, os.O_PATH)
PRINTED = os.dup(1)


class Reading(MultiProcessTestCase):
    world_size = 2

    def check(self) -> None:
        self.assertEqual(TEXT.readline(), "one\n")
        self.assertEqual(BEGUN.readline(), "two\n")
        self.assertEqual(NAMELESS.readline(), b"four\n")
        self.assertEqual(GONE.readline(), "six\n")
        self.assertEqual(os.read(RAW, 4), b"one\n")
        self.assertEqual(os.read(DUPLICATE, 4), b"two\n")
        self.assertIn("data.txt", os.listdir(ENTRIES))
        os.stat("data.txt", dir_fd=PLACE)
        os.write(PRINTED, f"printed by {self._testMethodName}, rank {self.rank}\n".encode())

    def test_first(self) -> None:
        self.check()

    def test_second(self) -> None:
        self.check()

    def test_flags(self) -> None:
        self.assertTrue(os.get_inheritable(INHERITED))
        self.assertFalse(os.get_inheritable(RAW))
        self.assertTrue(fcntl.fcntl(ADDED.fileno(), fcntl.F_GETFL) & os.O_APPEND)
        self.assertEqual(fcntl.fcntl(RAW, fcntl.F_GETFL) & os.O_ACCMODE, os.O_RDONLY)

    def test_a_lock_is_still_held(self) -> None:
        fcntl.flock(LOCKED, fcntl.LOCK_SH | fcntl.LOCK_NB)
        with open(FOLDER / "data.txt") as other, self.assertRaises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


class Writing(MultiProcessTestCase):
    world_size = 1

    def check(self) -> None:
        OUTPUT.write(f"{self._testMethodName}\n")
        OUTPUT.seek(0)
        self.assertEqual(OUTPUT.read(), f"header\n{self._testMethodName}\n")

    def test_1(self) -> None:
        self.check()

    def test_2(self) -> None:
        self.check()


class Alone(unittest.TestCase):
    """Runs in the process of unittest, or in a worker."""

    def test_plain(self) -> None:
        self.assertEqual(TEXT.readline(), "one\n")
        self.assertEqual(os.read(RAW, 4), b"one\n")
