"""The command `history`: what it prints of past runs."""

from __future__ import annotations

import contextlib
import io
import json
import time

from harness.model.errors import UsageError
from harness.runner.history.command import run_history
from suites.selftest.history_runs import HistoryTestCase, failed, passed


class TestCommand(HistoryTestCase):
    def command(self, *arguments):
        """Exit code, stdout, stderr."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run_history(["--history", str(self.path), *arguments], "run_tests.py")
        return code, out.getvalue(), err.getvalue()

    def fill(self):
        for number in range(8):
            self.record(passed("slow", 10 if number < 3 else 20), passed("a", 0.5))
        self.record(passed("slow", 21), passed("a", 0.5, earlier=[failed("a")]))
        self.record(failed("slow", 22, "ValueError: no"), passed("a", 0.5))

    def test_tables(self):
        self.fill()
        since, before = (
            time.strftime("%Y-%m-%d %H:%M", time.localtime(60.0 * number)) for number in (10, 9)
        )
        self.assertEqual(
            self.command(),
            (
                0,
                f"10 runs in {self.path}\n\n"
                "slowest       median     last  trend\n"
                "m.Test.slow  20.00 s  22.00 s  +100%\n"
                "m.Test.a      0.50 s   0.50 s    +0%\n\n"
                "flakiest  runs  flaky  flips\n"
                "m.Test.a    10      1      0\n\n"
                "newly failing             since            passed\n"
                f"m.Test.slow    {since}  {before}\n"
                "    ValueError: no\n",
                "",
            ),
        )

    def test_limit(self):
        self.fill()
        self.assertNotIn("0.50 s", self.command("--limit", "1")[1])

    def test_nothing_to_tell(self):
        self.record(passed("a"))
        code, out, _ = self.command()
        self.assertEqual(code, 0)
        self.assertTrue(out.endswith("\n\nflakiest: none\n\nnewly failing: none\n"), out)

    def test_json(self):
        self.fill()
        code, out, _ = self.command("--json")
        found = json.loads(out)
        self.assertEqual((code, found["runs"], found["history"]), (0, 10, str(self.path)))
        self.assertEqual(
            [slow["test_id"] for slow in found["slowest"]], ["m.Test.slow", "m.Test.a"]
        )
        self.assertEqual(found["flakiest"][0]["flaky"], 1)
        self.assertEqual(found["newly_failing"][0]["since_s"], 600.0)

    def test_no_history_yet(self):
        line = f"no runs have been recorded in {self.path} yet\n"
        self.assertEqual(self.command(), (0, line, ""))
        code, out, _ = self.command("--json")
        self.assertEqual((code, json.loads(out)["runs"]), (0, 0))

    def test_a_file_that_cannot_be_read(self):
        self.path.write_text("notes" * 100)
        advice = "(move it away, or give another --history PATH)"
        line = f"history: {self.path} is not a database {advice}\n"
        self.assertEqual(self.command(), (2, "", line))

    def test_damage_that_shows_only_when_it_is_read(self):
        self.record(passed("a"))
        self.sql("DROP TABLE outcomes")
        code, out, err = self.command("--json")
        self.assertEqual((code, out), (2, ""))
        self.assertIn("is damaged", err)

    def test_arguments_that_mean_nothing(self):
        for arguments in (["--limit", "0"], ["--limit", "x"], ["extra"], ["--nonsense"]):
            with self.assertRaisesRegex(UsageError, "run_tests.py history --help"):
                self.command(*arguments)
