"""The paths of reports: what is refused at the start, and how a report replaces an older one."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from harness.model.errors import UsageError
from harness.runner.reports import paths
from harness.runner.reports.paths import check_writable, replace
from harness.runner.reports.writing import check_reports, write_reports
from suites.selftest import report_runs as runs


class InFolder(unittest.TestCase):
    """Has a folder of its own."""

    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory(prefix="selftest ")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def files(self):
        return sorted(path.name for path in self.folder.iterdir())


class TestPaths(InFolder):
    def refusal(self, path, option="--junit"):
        before = self.files()
        with self.assertRaises(UsageError) as caught:
            check_writable(str(path), option)
        self.assertEqual(self.files(), before)
        self.assertNotIn("\n", str(caught.exception))
        self.assertIn(option, str(caught.exception))
        return str(caught.exception)

    def test_a_path_that_can_be_written_is_left_as_it_is(self):
        self.assertEqual(check_writable(str(self.folder / "new"), "--html"), self.folder / "new")
        self.assertEqual(self.files(), [])
        old = self.folder / "old"
        old.write_text("the last report")
        check_writable(str(old), "--html")
        self.assertEqual((self.files(), old.read_text()), (["old"], "the last report"))

    def test_a_relative_path_counts_from_where_the_run_began(self):
        where = Path.cwd()
        self.addCleanup(os.chdir, where)
        os.chdir(self.folder)
        self.assertEqual(check_writable("report", "--html"), self.folder.resolve() / "report")

    def test_refusals_say_why(self):
        (self.folder / "file").touch()
        self.assertIn("there is no folder", self.refusal(self.folder / "missing" / "report"))
        self.assertIn("it is a folder", self.refusal(self.folder))
        self.assertIn("it is a folder", self.refusal(f"{self.folder}/new/"))
        self.assertIn("there is no folder", self.refusal(self.folder / "file" / "report"))
        self.assertIn("needs the name of a file", self.refusal("", "--trace"))
        self.assertIn("null", self.refusal(f"{self.folder}/a\0b"))
        self.assertIn("File name too long", self.refusal(self.folder / ("x" * 300)))

    def test_a_folder_or_file_that_is_not_ours(self):
        if os.geteuid() == 0:
            self.skipTest("root may write everywhere")
        (self.folder / "file").touch(stat.S_IRUSR)
        self.assertIn("may not write", self.refusal(self.folder / "file"))
        self.folder.chmod(0o500)
        self.addCleanup(self.folder.chmod, 0o700)
        self.assertIn("Permission denied", self.refusal(self.folder / "new"))

    def test_a_file_system_that_cannot_be_written(self):
        refused = OSError(errno.EROFS, os.strerror(errno.EROFS))
        with mock.patch.object(paths.Path, "open", side_effect=refused):
            self.assertIn("Read-only file system", self.refusal(self.folder / "new"))

    def test_a_report_has_the_mode_of_any_new_file(self):
        replace(self.folder / "report", b"new")
        (self.folder / "other").touch()
        modes = {(self.folder / name).stat().st_mode for name in ("report", "other")}
        self.assertEqual(len(modes), 1)

    def test_a_link_stays_a_link(self):
        (self.folder / "link").symlink_to("report")
        replace(self.folder / "link", b"new")
        self.assertTrue((self.folder / "link").is_symlink())
        self.assertEqual((self.folder / "report").read_bytes(), b"new")

    def test_a_pipe_is_written_to_and_not_replaced(self):
        pipe = self.folder / "pipe"
        os.mkfifo(pipe)
        self.assertEqual(check_writable(str(pipe), "--junit"), pipe)
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, reader)
        replace(pipe, b"new")
        self.assertEqual(os.read(reader, 10), b"new")
        self.assertTrue(stat.S_ISFIFO(pipe.stat().st_mode))

    def test_two_reports_in_one_file(self):
        path = str(self.folder / "report")
        with self.assertRaisesRegex(UsageError, "--junit and --trace both name"):
            check_reports(junit=path, trace=path)
        found = check_reports(html=path)
        self.assertEqual(found, {"html": self.folder / "report"})


class TestWriting(InFolder):
    def test_writes_what_is_asked_for(self):
        junit, html, trace = (self.folder / name for name in ("j.xml", "h.html", "t.json"))
        self.assertEqual(write_reports(runs.ten(), html=html), [])
        self.assertEqual(self.files(), ["h.html"])
        self.assertEqual(write_reports(runs.ten(), junit, html, trace), [])
        self.assertEqual(self.files(), ["h.html", "j.xml", "t.json"])

    def test_a_full_disk_is_told_and_the_old_report_stays(self):
        report = self.folder / "report"
        report.write_text("the last report")
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with mock.patch.object(paths.Path, "write_bytes", side_effect=full):
            lines = write_reports(runs.ten(), junit=report, trace=self.folder / "trace")
        self.assertEqual(
            lines,
            [
                f"--junit: {report} could not be written: No space left on device",
                f"--trace: {self.folder / 'trace'} could not be written: No space left on device",
            ],
        )
        self.assertEqual((self.files(), report.read_text()), (["report"], "the last report"))

    def test_one_report_that_cannot_be_made_does_not_cost_the_others(self):
        run = runs.ten()
        run.records[0].seconds = "long"
        lines = write_reports(run, junit=self.folder / "j", html=self.folder / "h")
        self.assertEqual(len(lines), 2)
        self.assertIn("TypeError", lines[0])
        self.assertEqual(self.files(), [])

    def test_costs_nothing_unless_asked_for(self):
        script = """
import sys, harness.runner.reports.writing
print([name for name in ("jinja2", "junitparser", "torch") if name in sys.modules])
"""
        command = [sys.executable, "-W", "error", "-c", script]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        self.assertEqual(done.stdout.strip(), "[]", done.stderr)
