"""The report in JUnit XML."""

from __future__ import annotations

import io
import shlex
import sys
import unittest
from pathlib import Path
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.runner.execution import Execution
from harness.runner.options import Options
from harness.runner.reports.junit import junit_xml
from harness.runner.reports.text import visible
from harness.runner.results import RunResult, Status, TestRecord, Trouble
from harness.runner.workers.worker_spec import Wanted
from suites.selftest import report_runs as runs

XSD = Path(__file__).with_name("junit.xsd")


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
