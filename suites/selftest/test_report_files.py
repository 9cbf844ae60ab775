"""Reports for machines: JUnit XML, traces, and the files that reports are written to."""

from __future__ import annotations

import errno
import io
import json
import os
import shlex
import stat
import subprocess
import sys
import tempfile
import unittest
from collections import defaultdict
from pathlib import Path
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.model.errors import UsageError
from harness.model.timeline import CollectiveSpan, RankTrack
from harness.runner.execution import Execution
from harness.runner.options import Options
from harness.runner.reports import paths
from harness.runner.reports.junit import junit_xml
from harness.runner.reports.lanes import lanes_of
from harness.runner.reports.paths import check_writable, replace
from harness.runner.reports.text import visible
from harness.runner.reports.trace import trace_of, write_trace
from harness.runner.reports.writing import check_reports, write_reports
from harness.runner.results import RunResult, Status, TestRecord, Trouble
from harness.runner.workers.worker_spec import Wanted
from suites.selftest import report_runs as runs

XSD = Path(__file__).with_name("junit.xsd")


class InFolder(unittest.TestCase):
    """Has a folder of its own."""

    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory(prefix="selftest ")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def files(self):
        return sorted(path.name for path in self.folder.iterdir())


class TestJUnit(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        import xmlschema

        super().setUpClass()
        cls.schema = xmlschema.XMLSchema(str(XSD))

    def read(self, run):
        """The report as junitparser reads it; it has the form that the schema asks for."""
        from junitparser import xunit2

        xml = junit_xml(run)
        self.schema.validate(io.BytesIO(xml))
        return xunit2.JUnitXml.fromstring(xml)

    def cases(self, run):
        return [case for suite in self.read(run) for case in suite]

    def case(self, record):
        return self.cases(runs.run_of([record]))[0]

    def test_the_schema_refuses_what_readers_do(self):
        case = '<testcase name="a" classname="b" time="0"'
        for wrong in (case + "/>", case + "><failure/></testcase>", "<testcase/>"):
            text = (
                f'<testsuites name="harness"><testsuite name="s">{wrong}</testsuite></testsuites>'
            )
            with self.subTest(wrong):
                self.assertFalse(self.schema.is_valid(text))

    def test_every_kind_of_run_has_the_form(self):
        for make in (runs.ten, lambda: runs.ten(bad=True), runs.desync, runs.nasty, RunResult):
            run = make()
            with self.subTest(make):
                self.assertEqual(len(self.cases(run)), len(run.records))

    def test_counts_and_names(self):
        report = self.read(runs.ten(bad=True))
        suites = list(report)
        names = ["suites.test_model_0.TestModel0"]
        self.assertEqual([suite.name for suite in suites], names)
        counts = (report.tests, report.failures, report.errors, suites[0].skipped)
        self.assertEqual(counts, (10, 0, 1, 1))
        first = next(iter(suites[0]))
        self.assertEqual((first.name, first.classname, first.time), ("test_step_0", *names, 0.05))
        self.assertEqual(suites[0].timestamp, "2026-01-01T00:00:00")
        found = {p.name: p.value for p in suites[0].properties()}
        self.assertEqual((found["seed"], found["jobs"]), ("1234", "2"))
        self.assertIn("run_tests.py", found["command"])

    def test_the_command_can_be_pasted(self):
        words = ["-j", "0", "-k", "a or b", "--junit", "my report.xml"]
        wanted = Wanted((), (), ())
        with mock.patch.object(sys, "argv", ["harness", *words]):
            command = Execution(Options(jobs=0), wanted)._run.command
        self.assertEqual(shlex.split(command)[-len(words) :], words)

    def test_a_suite_for_each_class(self):
        report = self.read(runs.many(200))
        self.assertEqual(len(list(report)), 20)
        self.assertEqual({suite.tests for suite in report}, {10})

    def test_fixtures_and_modules_have_names(self):
        texts = ("setUpClass (suites.test_a.TestA)", "unittest.loader._FailedTest.test_b", "plain")
        cases = self.cases(runs.run_of([TestRecord(text, Status.FAILED) for text in texts]))
        self.assertEqual(
            [(case.classname, case.name) for case in cases],
            [
                ("suites.test_a.TestA", "setUpClass"),
                ("unittest.loader._FailedTest", "test_b"),
                ("plain", "plain"),
            ],
        )

    def test_failures_errors_and_what_ought_to_have_failed(self):
        for label, tag in (("FAIL", "failure"), ("ERROR", "error"), ("XPASS", "failure")):
            trouble = Trouble(label, "a.b", "Traceback\n  at\nValueError: no\n  more")
            case = self.case(TestRecord("a.b", Status.FAILED, troubles=[trouble]))
            (result,) = case.result
            with self.subTest(label):
                self.assertEqual(result._tag, tag)
                self.assertEqual((result.message, result.type), ("ValueError: no", "ValueError"))
                self.assertEqual(result.text, trouble.text)

    def test_all_troubles_are_in_one_element(self):
        case = next(c for c in self.cases(runs.ten(bad=True)) if c.name == "test_step_5")
        (result,) = case.result
        self.assertEqual(result._tag, "error")
        self.assertIn("FAIL: suites.test_model_0.TestModel0.test_step_5\n", result.text)
        self.assertIn("test_step_5 (lr=0.1)\n", result.text)

    def test_skips_and_expected_failures_have_their_reason(self):
        skipped = self.case(TestRecord("a.b", Status.SKIPPED, reason="requires CUDA"))
        self.assertEqual(skipped.result[0].message, "requires CUDA")
        passed = self.case(TestRecord("a.b", Status.PASSED, reason="expected failure"))
        self.assertEqual(passed.result, [])
        self.assertIn("expected failure", [p.value for p in passed.properties()])

    def test_a_test_that_never_ended_is_an_error(self):
        (result,) = self.case(TestRecord("a.b")).result
        self.assertEqual((result._tag, result.message), ("error", "unfinished"))

    def test_a_flaky_test_has_passed(self):
        case = next(c for c in self.cases(runs.ten(bad=True)) if c.name == "test_step_7")
        self.assertEqual(case.result, [])
        (attempt,) = case.flaky_errors()
        self.assertEqual(attempt.message, "AssertionError: 0.5 != 1.0")
        self.assertIn("test_model.py", attempt.stack_trace)
        self.assertIn("first try", attempt.system_out)
        found = {p.name: p.value for p in case.properties()}
        self.assertEqual((found["flaky"], found["attempts"]), ("true", "2"))

    def test_earlier_attempts_of_a_failure_are_reruns(self):
        earlier = [
            TestRecord("a.b", Status.FAILED, troubles=[runs.failure("a.b", label)])
            for label in ("FAIL", "ERROR")
        ]
        troubles = [runs.failure("a.b")]
        case = self.case(TestRecord("a.b", Status.FAILED, troubles=troubles, earlier=earlier))
        counts = (len(case.result), len(case.rerun_failures()), len(case.rerun_errors()))
        self.assertEqual(counts, (1, 1, 1))

    def test_logs_of_the_test_come_first_then_each_rank(self):
        case = next(c for c in self.cases(runs.desync()) if c.name == "test_sync")
        self.assertTrue(case.system_out.startswith("==== rank 1 (timed out): stdout ====\nepoch 0"))
        for part in ("rank 1 (timed out): reason", "rank 2 (timed out): stacks", "loss is nan"):
            self.assertIn(part, case.system_err)
        case = next(c for c in self.cases(runs.ten()) if c.name == "test_step_3")
        self.assertEqual((case.system_out, case.system_err), ("step 1\nstep 2", "a warning"))

    def test_nothing_a_test_prints_breaks_the_file(self):
        case = self.cases(runs.nasty())[0]
        for text in (case.system_out, case.system_err, case.result[0].text):
            self.assertIn("</script>", text)
            self.assertIn("\\x1b[1;31mred", text)
            self.assertIn("\\ud800 \\udfff \U0001f600 \\ufffe\\uffff", text)
            self.assertIn("\\x00\\x01", text)

    @settings(max_examples=50, deadline=None)
    @given(st.text(st.characters(exclude_categories=())))
    def test_any_text_arrives(self, text):
        (case,) = self.cases(
            runs.run_of([TestRecord("a.b", Status.PASSED, stdout=f"<{text}>", stderr=text)])
        )
        # Readers of XML make one line feed of every line end.
        expected = visible(f"<{text}>").replace("\r\n", "\n").replace("\r", "\n")
        self.assertEqual(case.system_out, expected)

    def test_a_megabyte_of_log_and_two_thousand_tests(self):
        log = ("x" * 99 + "\n") * 10_000
        run = runs.many(2000)
        run.records[0].stdout = log
        xml = junit_xml(run)
        self.assertGreater(len(xml), len(log))


class TestTrace(unittest.TestCase):
    def events(self, run, ph):
        return [event for event in trace_of(run)["traceEvents"] if event["ph"] == ph]

    def lanes(self, run):
        """The names of the lanes, by process and lane."""
        named = [e for e in self.events(run, "M") if e["name"] == "thread_name"]
        return {(e["pid"], e["tid"]): e["args"]["name"] for e in named}

    def assert_nested(self, run):
        open_until = defaultdict(list)
        for event in self.events(run, "X"):
            ends = open_until[event["pid"], event["tid"]]
            while ends and ends[-1] <= event["ts"]:
                ends.pop()
            end = event["ts"] + event["dur"]
            if ends:
                self.assertLessEqual(end, ends[-1], event)
            ends.append(end)

    def test_is_json_in_order_of_time_and_nests(self):
        for make in (runs.ten, lambda: runs.ten(bad=True), runs.desync, lambda: runs.many(100)):
            run = make()
            with self.subTest(make), tempfile.TemporaryDirectory() as folder:
                write_trace(run, Path(folder, "trace.json"))
                data = json.loads(Path(folder, "trace.json").read_text())
                self.assertEqual(data, trace_of(run))
                times = [e["ts"] for e in data["traceEvents"] if e["ph"] != "M"]
                self.assertEqual(times, sorted(times))
                self.assertGreaterEqual(times[0], 0)
                self.assert_nested(run)

    def test_a_process_for_each_worker_and_a_lane_for_each_rank(self):
        run = runs.desync()
        processes = [e for e in self.events(run, "M") if e["name"] == "process_name"]
        self.assertEqual([e["args"]["name"] for e in processes], ["worker 1", "worker 2"])
        of_first = [name for (pid, _), name in self.lanes(run).items() if pid == 2]
        self.assertEqual(of_first, ["tests", "rank 0", "rank 1", "rank 2", "rank 3"])
        tids = [tid for _, tid in self.lanes(run)]
        self.assertEqual(len(tids), len(set(tids)))

    def test_every_event_is_in_a_lane_with_a_name(self):
        run = runs.ten(bad=True)
        lanes = self.lanes(run)
        for event in [*self.events(run, "X"), *self.events(run, "i")]:
            self.assertIn((event["pid"], event["tid"]), lanes)

    def test_times_count_from_the_start_of_the_run_in_microseconds(self):
        tests = [e for e in self.events(runs.ten(), "X") if e["cat"] == "test"]
        self.assertEqual({e["ts"] for e in tests}, {0, 60_000, 120_000, 180_000, 240_000})
        self.assertEqual({e["dur"] for e in tests}, {50_000})
        self.assertEqual(tests[0]["args"]["status"], "passed")

    def test_what_is_pending_lasts_as_long_as_its_rank(self):
        run = runs.desync()
        pending = [
            e for e in self.events(run, "X") if e["cat"] == "collective" and "pending" in str(e)
        ]
        self.assertEqual([e["name"] for e in pending], ["all_reduce", "broadcast"])
        self.assertEqual(pending[0]["args"]["seq"], 7)
        ends = {e["tid"]: e for e in self.events(run, "i") if e["name"] == "timed out"}
        for event in pending:
            end = ends[event["tid"]]
            self.assertEqual(event["ts"] + event["dur"], end["ts"])
            self.assertIn("waited in", end["args"]["reason"])

    def test_earlier_attempts_are_there(self):
        tests = [e for e in self.events(runs.ten(bad=True), "X") if e["name"] == "test_step_7"]
        found = [(e["args"]["attempt"], e["args"]["status"]) for e in tests]
        self.assertEqual(found, [(1, "failed"), (2, "passed")])

    def test_what_overlaps_has_a_lane_of_its_own(self):
        at = runs.STARTED_S
        spans = tuple(
            CollectiveSpan("all_reduce", "g", n + 1, "", at + n, at + n + 1.5, False)
            for n in range(4)
        )
        record = runs.record_of(0, at, 6.0, worker=1)
        record.ranks = (RankTrack(0, 1, collectives=spans),)
        run = runs.run_of([record])
        self.assert_nested(run)
        expected = ["tests", "rank 0", "rank 0, overlapping"]
        self.assertEqual(list(self.lanes(run).values()), expected)

    def test_hostile_text_and_times_before_the_run(self):
        text = json.dumps(trace_of(runs.nasty()), ensure_ascii=False)
        text.encode()  # no lone surrogate is left
        self.assertIn("</script>", text)
        self.assert_nested(runs.nasty())

    def test_lanes(self):
        self.assertEqual(lanes_of([(0, 9), (0, 3), (3, 9), (2, 4), (9, 10)]), [0, 0, 0, 1, 0])
        self.assertEqual(lanes_of([(5, 5), (5, 5), (0, 5)]), [0, 0, 0])
        self.assertEqual(lanes_of([]), [])

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)).map(sorted).map(tuple)))
    def test_spans_of_a_lane_never_overlap(self, spans):
        lanes = lanes_of(spans)
        for n, (a, b) in enumerate(spans):
            for m, (c, d) in enumerate(spans):
                crossing = a < c < b < d
                self.assertFalse(crossing and lanes[n] == lanes[m], (spans, lanes))


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
