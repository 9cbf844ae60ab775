"""Names and texts that not every file can carry: each report is valid and names each test."""

from __future__ import annotations

import json
import os
import sys
import unittest
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.runner.reports.junit_input import read_junit
from harness.runner.reports.records import read_records
from harness.runner.reports.text import original_name, visible_name
from suites.selftest.support import CommandTestCase

# The names that fail, and beside them the literal texts that an escape of these would read like.
FAIL = ("test_\ud800", "test_\x1b", "test_\x00")
PASS = ("test_\\ud800", "test_\\x1b", "test_\\x00", "test_\\\\x1b")
ODD = """
    import unittest

    class TestOdd(unittest.TestCase):
        def test_subtest(self):
            with self.subTest(x="\\ud800\\x1b\\x00"):
                self.fail("error \\ud800\\x1b\\x00")
        def test_skip(self):
            self.skipTest("because \\ud800\\x1b\\x00")
        def test_output(self):
            print("output \\x1b \\x00")

    def fails(self): self.fail("\\udcff")
    def passes(self): pass
"""


class TestNames(unittest.TestCase):
    @settings(max_examples=500, deadline=None)
    @given(st.one_of(st.text(st.characters(exclude_categories=())), st.text("\\xu0d8\x1b\ud800")))
    def test_come_back_and_can_be_written(self, name):
        written = visible_name(name)
        self.assertEqual(original_name(written), name)
        written.encode()
        self.assertNotRegex(written, "[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")

    def test_plain_ones_stay_as_they_are(self):
        for name in ("m.T.test_a", "m.T.test_p0 ('a\\n')", "C:\\dir", "m.T.test_é"):
            self.assertEqual(visible_name(name), name)


class TestFiles(CommandTestCase):
    """One run, then every file that it has written."""

    def setUp(self):
        super().setUp()
        lines = [f"setattr(TestOdd, {name!a}, fails)" for name in FAIL]
        lines += [f"setattr(TestOdd, {name!a}, passes)" for name in PASS]
        self.write("test_odd.py", ODD)
        with (self.folder / "test_odd.py").open("a") as file:
            file.write("\n".join(lines))
        self.tests = {f"test_odd.TestOdd.{name}" for name in (*FAIL, *PASS)}
        self.tests |= {f"test_odd.TestOdd.test_{name}" for name in ("subtest", "skip", "output")}

    def path(self, name: str) -> Path:
        return self.folder / name

    def test_every_report(self):
        done = self.harness(
            *("-j", "2", "--history", "past", "--junit", "junit", "--html", "html"),
            *("--trace", "trace", "--records", "records", "--results", "results"),
        )
        self.assertEqual(done.last_line, "5 passed, 4 failed, 1 skipped", done.err)

        cases = [case.attrib for case in ElementTree.parse(self.path("junit")).iter("testcase")]
        names = {original_name(f"{case['classname']}.{case['name']}") for case in cases}
        self.assertEqual((names, len(cases)), (self.tests, len(self.tests)))
        self.assertEqual({record.key for record in read_junit(self.path("junit")).records}, names)
        self.assertEqual({r.key for r in read_records(self.path("records")).records}, names)

        html = self.path("html").read_text(encoding="utf-8")
        self.assertNotRegex(html, "[\x00-\x08\x0b\x0c\x0e-\x1f]")
        for test in self.tests:
            self.assertIn(visible_name(test), html)
        events = json.loads(self.path("trace").read_text(encoding="utf-8"))["traceEvents"]
        traced = Counter(e["args"]["test"] for e in events if e.get("cat") == "test")
        self.assertEqual(traced, Counter(map(visible_name, self.tests)))
        lines = self.path("results").read_text(encoding="utf-8").splitlines()
        self.assertEqual({json.loads(line)["test"] for line in lines}, self.tests)

        done = self.harness("merge-reports", "junit", "--junit", "again", "--html", "page")
        self.assertEqual((done.code, done.last_line), (1, "5 passed, 4 failed, 1 skipped"))
        self.assertEqual({r.key for r in read_junit(self.path("again")).records}, names)
        self.failed_are_found_again()

    def failed_are_found_again(self):
        again = self.harness("--rerun-failed", "--history", "past", "--records", "records")
        self.assertEqual(again.last_line, "0 passed, 4 failed, 0 skipped")
        wanted = {f"test_odd.TestOdd.{name}" for name in (*FAIL, "test_subtest")}
        self.assertEqual({r.key for r in read_records(self.path("records")).records}, wanted)
        shown = self.harness("history", "--history", "past")
        self.assertEqual(shown.code, 0)
        self.assertNotRegex(shown.out, "[\x00\x1b]")
        tests = json.loads(self.harness("history", "--history", "past", "--json").out)["slowest"]
        self.assertEqual({test["test_id"] for test in tests}, self.tests - self.skipped())

    def skipped(self) -> set[str]:
        return {"test_odd.TestOdd.test_skip"}

    def test_lists_of_pytorchs(self):
        disabled = {f"{name} (__main__.TestOdd)": ["issue", []] for name in FAIL}
        self.path("list").write_text(json.dumps(disabled))
        done = self.harness("--no-history", DISABLED_TESTS_FILE=str(self.path("list")))
        self.assertEqual(done.last_line, "5 passed, 1 failed, 4 skipped", done.err)

    @unittest.skipUnless(sys.platform == "linux", "file names are any bytes on Linux")
    def test_a_file_with_a_name_that_is_no_utf8(self):
        self.path("test_odd.py").unlink()
        text = b"import unittest\nclass TestX(unittest.TestCase):\n    def test(self): 1 / 0\n"
        path = os.path.join(os.fsencode(self.folder), b"test_\xff.py")
        Path(os.fsdecode(path)).write_bytes(text)
        for name in ((), (os.fsdecode(b"test_\xff.py"),), (os.fsdecode(b"test_\xff.TestX.test"),)):
            done = self.harness(*name, "--junit", "junit", "--history", "past")
            self.assertEqual(done.last_line, "0 passed, 1 failed, 0 skipped", done.err)
            (case,) = ElementTree.parse(self.path("junit")).iter("testcase")
            self.assertEqual(case.get("classname"), "test_\\udcff.TestX")
        done = self.harness("--rerun-failed", "--history", "past")
        self.assertEqual(done.last_line, "0 passed, 1 failed, 0 skipped", done.err)


if __name__ == "__main__":
    unittest.main()
