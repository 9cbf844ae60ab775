"""Commands under torchrun that run no tests: what they say is said once, not once for each rank."""

from __future__ import annotations

import json
import unittest

from suites.selftest.torchrun_runs import TorchrunTestCase


class TestToldOnce(TorchrunTestCase):
    def setUp(self):
        super().setUp()
        self.write(
            "test_x.py",
            "import unittest\nclass TestX(unittest.TestCase):\n    def test_a(self): pass\n",
        )

    def on_two(self, *arguments: str):
        """The runner on two processes of torchrun."""
        start = ("--standalone", "--nproc-per-node", "2", "-m", "harness")
        return self.torchrun(*start, *arguments)

    def test_list_help_and_version(self):
        for words, line in (
            (["--list", "test_x.py"], "test_x.TestX.test_a"),
            (["--help"], "exit codes:"),
            (["history", "--history", "none"], "no runs have been recorded"),
            (["--version"], "harness "),
        ):
            with self.subTest(words):
                done = self.on_two(*words)
                self.assertEqual(done.code, 0, done.err)
                lines = [text for text in done.out.splitlines() if text.startswith(line)]
                self.assertEqual(len(lines), 1, done.out)

    def test_usage_errors(self):
        for words, line in (
            (["--repeat", "0"], "argument --repeat"),
            (["no/such/file.py"], "there is no file or folder no/such/file.py"),
            (["-j", "3", "test_x.py"], "-j 3: "),
            (["--list", "TestY"], "no test is called 'TestY'"),
        ):
            with self.subTest(words):
                done = self.on_two(*words)
                self.assertNotEqual(done.code, 0)
                self.assertEqual(done.err.count(line), 1, done.err)

    def test_merging(self):
        self.harness("test_x.py", "--no-history", "--records", "one.json")
        done = self.on_two("merge-reports", "one.json", "--records", "all.json")
        self.assertEqual(done.code, 0, done.err)
        self.assertEqual(done.out.count("1 passed, 0 failed, 0 skipped"), 1)
        self.assertEqual(len(json.loads((self.folder / "all.json").read_text())["records"]), 1)

    def test_shards_each_list_their_own(self):
        done = self.on_two("--list", "--shard", "auto", "test_x.py")
        self.assertEqual(done.out.count("test_x.TestX.test_a"), 1, done.out)


if __name__ == "__main__":
    unittest.main()
