"""The paths of reports: what is refused at the start, and how a report replaces an older one."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
import unittest
from pathlib import Path
from unittest import mock

from harness.model.errors import UsageError
from harness.runner.reports import paths
from harness.runner.reports.paths import check_writable, replace
from harness.runner.reports.writing import check_reports, write_reports
from suites.selftest import report_runs as runs
from suites.selftest.support import CommandTestCase, FolderTestCase, run_python


class InFolder(FolderTestCase):
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
        done = run_python("-W", "error", "-c", script)
        self.assertEqual(done.stdout.strip(), "[]", done.stderr)


QUICK = """
import unittest


class TestQuick(unittest.TestCase):
    def test_a(self):
        pass
"""


class TestFullDisk(CommandTestCase):
    """The tests have passed, but something cannot be written: one sentence, and the run fails."""

    FULL = "could not be written: No space left on device"

    def setUp(self):
        super().setUp()
        self.write("test_quick.py", QUICK)

    @unittest.skipUnless(os.getuid() == 0 and shutil.which("unshare"), "mounts need root")
    def test_the_other_files_are_written(self):
        (self.folder / "disk").mkdir()
        script = "mount -t tmpfs -o size=4k none disk && head -c 4096 /dev/zero >disk/rest"
        reports = ("junit", "html", "records", "trace", "results")
        for full in reports:
            with self.subTest(full):
                options = [f"--{n}={'disk/' * (n == full)}{full}-{n}" for n in reports]
                command = [sys.executable, "-m", "harness", "test_quick.py", "-j1", *options]
                done = self.run_command(
                    *("unshare", "-m", "sh", "-c", f'{script} || exit 99; exec "$@"', "sh"),
                    *(*command, f"--history={full}-history"),
                )
                if done.code == 99:
                    self.skipTest("this process may not mount")
                told = f"--{full}: {self.folder}/disk/{full}-{full} {self.FULL}"
                self.assertEqual(
                    done.out.splitlines()[-2:], [told, "1 passed, 0 failed, 0 skipped"]
                )
                self.assertEqual((done.code, done.err), (1, ""))
                written = {path.name for path in self.folder.glob(f"{full}-*")}
                others = {f"{full}-{name}" for name in ("history", *reports) if name != full}
                self.assertEqual(written, others)

    def test_where_the_output_goes(self):
        for words in ("-j 1 --junit j.xml", "-j 0 --junit j.xml", "--list"):
            with self.subTest(words):
                (self.folder / "j.xml").unlink(missing_ok=True)
                done = self.to_full_disk(f"test_quick.py --no-history {words}")
                self.assertEqual((done.code, done.err.count(self.FULL)), (1, 1), done.err)
                self.assertEqual(done.err.count("\n"), 1, done.err)
                self.assertEqual((self.folder / "j.xml").exists(), "--junit" in words)

    def test_where_a_merged_summary_goes(self):
        self.assertEqual(self.harness("test_quick.py", "--records", "r.json").code, 0)
        done = self.to_full_disk("merge-reports r.json --junit j.xml")
        self.assertEqual((done.code, done.err), (1, f"the output {self.FULL}\n"))
        self.assertTrue((self.folder / "j.xml").exists())

    def to_full_disk(self, words):
        return self.run_command("sh", "-c", f"'{sys.executable}' -m harness {words} >/dev/full")


if __name__ == "__main__":
    unittest.main()
