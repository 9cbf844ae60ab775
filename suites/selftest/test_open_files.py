"""Files that a test module opens when it is imported: each test starts where the import stopped."""

from __future__ import annotations

import sys

from suites.selftest.support import CommandTestCase

SAMPLE = "suites.samples.opens_files"
TESTS = 7


class TestOpenFiles(CommandTestCase):
    def files(self) -> str:
        folder = self.sandbox.base / "files"
        folder.mkdir()
        return str(folder)

    def run_sample(self, *command: str):
        """Run it with stdout a file, whose position all processes have to share."""
        finished = self.run_command(
            "sh",
            "-c",
            'exec "$@" > out.txt 2>&1',
            "sh",
            sys.executable,
            "-m",
            *command,
            SAMPLE_FILES=self.files(),
        )
        told = (self.folder / "out.txt").read_text()
        self.assertEqual(finished.code, 0, told)
        self.assert_clean(finished)
        for method in ("test_first", "test_second"):
            for rank in (0, 1):
                self.assertIn(f"printed by {method}, rank {rank}\n", told)
        return told

    def test_unittest(self):
        self.assertIn(f"Ran {TESTS} tests", self.run_sample("unittest", SAMPLE))

    def test_one_worker(self):
        self.assertIn(f"{TESTS} passed, 0 failed", self.run_sample("harness", "-j", "1", SAMPLE))

    def test_two_workers(self):
        self.assertIn(f"{TESTS} passed, 0 failed", self.run_sample("harness", "-j", "2", SAMPLE))

    def test_without_workers(self):
        self.assertIn(f"{TESTS} passed, 0 failed", self.run_sample("harness", "-j", "0", SAMPLE))

    def test_pytest(self):
        (self.folder / "test_files.py").write_text(f"from {SAMPLE} import *\n")
        told = self.run_sample("pytest", "-s", "-p", "no:cacheprovider", "test_files.py")
        self.assertIn(f"{TESTS} passed", told)

    def test_fresh_interpreters(self):
        with_spawn = {"HARNESS_START_METHOD": "spawn", "SAMPLE_FILES": self.files()}
        finished = self.run_command(
            sys.executable, "-m", "unittest", f"{SAMPLE}.Reading.test_second", **with_spawn
        )
        self.assertEqual(finished.code, 0, finished.err)
