"""Readers of files that others may have damaged: an answer or a sentence, never a traceback.

The inputs are drawn: valid files with something deleted, replaced, doubled or flipped, and any
JSON. More of them: SELFTEST_EXAMPLES=10000 python run_tests.py suites/selftest/test_readers.py
"""

from __future__ import annotations

import io
import json
import os
import sqlite3
import tempfile
import unittest
from pathlib import Path
from xml.etree import ElementTree

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.runner.console import Console
from harness.runner.history.history import open_history
from harness.runner.merging import merged
from harness.runner.reports.junit import write_junit
from harness.runner.reports.junit_input import read_junit
from harness.runner.reports.records import read_records, write_records
from harness.runner.reports.writing import write_reports
from harness.runner.results import Status, TestRecord
from harness.runner.selection.planned_test import PlannedTest
from harness.runner.selection.pytorch_lists import TestLists
from harness.runner.torchrun_journal import Journal, code_of_finished_run
from harness.runner.workers.schedule import Item
from suites.selftest import report_runs
from suites.selftest.damage import ANY_JSON, changed_bytes, changed_data, changed_xml
from suites.selftest.support import FolderTestCase

EXAMPLES = int(os.environ.get("SELFTEST_EXAMPLES", "200"))

drawn = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
DEEP = "[" * 100_000


class ReaderTestCase(FolderTestCase):
    def setUp(self):
        super().setUp()
        self.path = self.folder / "file"

    def check(self, read, content: bytes) -> None:
        """A reader of reports refuses the content with a sentence, or what it reads can be used."""
        self.path.write_bytes(content)
        try:
            run = read(self.path)
        except ValueError as error:
            self.assertTrue(str(error))
            self.assertNotIn("Traceback", str(error))
            self.assertLess(len(str(error)), 1000)
            return
        whole = merged([run, run])
        reports = {name: self.folder / name for name in ("junit", "html", "trace", "records")}
        self.assertEqual(write_reports(whole, **reports), [])
        self.assertEqual(read_records(reports["records"]).counts, whole.counts)
        again = read_junit(reports["junit"])
        self.assertEqual((again.counts, again.exit_code), (whole.counts, whole.exit_code))
        Console(stream=io.StringIO()).summary(whole)


def content_of(write, run) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        write(run, Path(folder, "file"))
        return Path(folder, "file").read_bytes()


class TestRecords(ReaderTestCase):
    RUN = content_of(write_records, report_runs.ten(bad=True))

    @drawn
    @given(changed_data(json.loads(RUN)))
    def test_changed_values(self, text):
        self.check(read_records, text.encode())

    @drawn
    @given(changed_bytes(RUN))
    def test_changed_bytes(self, content):
        self.check(read_records, content)

    @drawn
    @given(ANY_JSON.map(json.dumps))
    def test_any_json(self, text):
        self.check(read_records, text.encode())

    def test_what_is_wrong_is_told_with_its_place(self):
        def refused(change) -> str:
            data = json.loads(self.RUN)
            change(data)
            self.path.write_text(data if isinstance(data, str) else json.dumps(data))
            with self.assertRaises(ValueError) as caught:
                read_records(self.path)
            return str(caught.exception)

        for change, told in (
            (lambda d: d["records"][3].update(seconds="5"), "its run.records[3].seconds is '5'"),
            (lambda d: d["records"][3].update(seconds=-5.0), "is '-5.0', not 0 or more"),
            (lambda d: d["records"][3].update(seconds=float("nan")), "is 'nan', not between"),
            (lambda d: d["records"][3].update(seconds=1e300), "is '1e+300', not between"),
            (
                lambda d: d["records"][3].update(status="ok"),
                "records[3].status is 'ok', not one of",
            ),
            (lambda d: d["records"][1].pop("test_id"), "its run.records[1] has no 'test_id'"),
            (lambda d: d["records"][1].update(odd=1), "records[1] has an unknown entry 'odd'"),
            (lambda d: d.update(records={}), "its run.records is dict of 0, not a list"),
            (lambda d: d.update(jobs=True), "its run.jobs is 'True', not a whole number"),
            (lambda d: d.update(shard=[3, 2]), "its run.shard is 3 of 2"),
            (lambda d: d.update(shard=[3]), "its run.shard is list of 1, not a list of 2"),
            (lambda d: d.pop("seed"), "its run has no 'seed'"),
        ):
            with self.subTest(told):
                self.assertIn(told, refused(change))

    def test_what_is_no_json(self):
        for content, told in (
            (b"", "it is not JSON (Expecting value: line 1 column 1"),
            (self.RUN[:-1], "it is not JSON"),
            (b"{\n  'a'", "line 2 column 3"),
            (b"\xff\xfe\x00", "it is not"),
            (DEEP.encode(), "it is nested too deeply"),
            (b'{"a":' * 100_000, "it is nested too deeply"),
            (b"9" * 5000, "4300 digits"),
        ):
            with self.subTest(told):
                self.path.write_bytes(content)
                with self.assertRaises(ValueError) as caught:
                    read_records(self.path)
                self.assertIn(told, str(caught.exception))


class TestJUnit(ReaderTestCase):
    RUN = content_of(write_junit, report_runs.ten(bad=True))

    @drawn
    @given(changed_xml(RUN))
    def test_changed_elements(self, content):
        self.check(read_junit, content)

    @drawn
    @given(changed_bytes(RUN))
    def test_changed_bytes(self, content):
        self.check(read_junit, content)

    def test_a_test_that_has_been_taken_out(self):
        root = ElementTree.fromstring(self.RUN)
        suite = root.find("testsuite")
        suite.remove(suite.find("testcase"))
        self.path.write_bytes(ElementTree.tostring(root))
        with self.assertRaisesRegex(ValueError, r"are \(10, .* contains \(9, "):
            read_junit(self.path)

    def test_a_failure_beside_a_skip(self):
        root = ElementTree.fromstring(self.RUN)
        case = next(case for case in root.iter("testcase") if case.find("skipped") is not None)
        case.insert(0, ElementTree.Element("failure"))
        self.path.write_bytes(ElementTree.tostring(root))
        with self.assertRaisesRegex(ValueError, r"are \(10, 1, 1\), .* \(10, 2, 0\)"):
            read_junit(self.path)
        suite = root.find("testsuite")
        suite.set("failures", "1")
        suite.set("skipped", "0")
        self.path.write_bytes(ElementTree.tostring(root))
        self.assertEqual(read_junit(self.path).counts, "8 passed, 2 failed, 0 skipped")
        self.check(read_junit, self.path.read_bytes())

    def test_elements_in_elements(self):
        self.check(read_junit, b"<testsuites name='harness'>" + b"<testsuite>" * 100_000)
        deep = b"<testsuite>" * 10_000 + b"</testsuite>" * 10_000
        self.check(read_junit, b"<testsuites name='harness'>" + deep + b"</testsuites>")


class TestHistory(ReaderTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "past")
            for bad in (True, False, True):
                open_history(str(path)).record(report_runs.ten(bad), "code")
            cls.content = path.read_bytes()

    def use(self) -> None:
        """Everything that a run asks of its history; a problem is one line."""
        history = open_history(str(self.path))
        history.durations()
        history.shard_durations()
        history.last_failed()
        history.trends()
        history.record(report_runs.ten(), "code")
        self.assertNotIn("\n", history.problem)

    @drawn
    @given(st.data())
    def test_changed_bytes(self, data):
        self.path.write_bytes(data.draw(changed_bytes(self.content)))
        for beside in self.folder.glob("file-*"):
            beside.unlink()
        self.use()

    COLUMNS = [
        f"{table}.{column}"
        for table, columns in {
            "outcomes": "test run failed flaky attempts us ranks why",
            "tests": "id name",
            "runs": "id at code plan shard shards",
        }.items()
        for column in columns.split()
    ]
    VALUES = st.one_of(
        st.none(),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(),
        st.binary(max_size=9),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=9),
    )

    @drawn
    @given(st.lists(st.tuples(st.sampled_from(COLUMNS), VALUES), min_size=1, max_size=3))
    def test_changed_values(self, changes):
        self.path.write_bytes(self.content)
        with sqlite3.connect(self.path, isolation_level=None) as connection:
            for column, value in changes:
                table, _, name = column.partition(".")
                rows = f"rowid % 2 = {len(changes) % 2}" if table != "outcomes" else "ranks > 0"
                try:
                    connection.execute(f"UPDATE {table} SET {name} = ? WHERE {rows}", (value,))
                except sqlite3.Error:
                    continue  # the column does not take such a value
        connection.close()
        self.use()


class TestPyTorchLists(ReaderTestCase):
    DISABLED = {
        "test_add (__main__.TestMath)": ["https://example.org/1", ["linux"]],
        "test_sub (__main__.TestMath)": ["https://example.org/2", []],
    }
    SLOW = {"test_add (__main__.TestMath)": 61.5, "test_mul (__main__.TestMath)": 99.0}

    def use(self, disabled: bytes, slow: bytes) -> None:
        paths = {"DISABLED_TESTS_FILE": self.folder / "1", "SLOW_TESTS_FILE": self.folder / "2"}
        for path, content in zip(paths.values(), (disabled, slow), strict=True):
            path.write_bytes(content)
        lists = TestLists.from_environ({name: str(path) for name, path in paths.items()})
        for problem in lists.problems:
            self.assertNotIn("\n", problem)
        for name in ("test_add", "test_sub", "test_x"):
            lists.skip_reason(f"m.TestMath.{name}", False)

    @drawn
    @given(changed_data(DISABLED), changed_data(SLOW))
    def test_changed_values(self, disabled, slow):
        self.use(disabled.encode(), slow.encode())

    @drawn
    @given(changed_bytes(json.dumps(DISABLED).encode()), ANY_JSON.map(json.dumps))
    def test_changed_bytes_and_any_json(self, disabled, slow):
        self.use(disabled, slow.encode())

    def test_depth(self):
        self.use(DEEP.encode(), b'{"a":' * 100_000)


class Notes(dict):
    """The store of a journal."""

    def put(self, name: str, text: str) -> None:
        self[name] = text


class TestJournal(unittest.TestCase):
    ITEMS = [Item(n, PlannedTest(f"m.T.test_{n}", "m.T")) for n in range(4)]

    def journal(self) -> Notes:
        notes = Notes()
        journal = Journal(notes)
        for item in self.ITEMS[:3]:
            journal.begin(item)
            record = report_runs.record_of(item.number, 1.0, ranks=2)
            record.test_id = item.test.test_id
            journal.add(item, record)
        journal.begin(self.ITEMS[3])
        return notes

    def read(self, notes: Notes) -> list[TestRecord]:
        code = code_of_finished_run(notes)
        self.assertTrue(code is None or code >= 0)
        resumed, records = Journal(notes).read(), []
        for item in self.ITEMS:
            resumed.settle(item, lambda _, record: records.append(record))
        return records

    def test_what_is_not_damaged(self):
        statuses = [record.status for record in self.read(self.journal())]
        self.assertEqual(statuses, [Status.PASSED] * 3 + [Status.FAILED])

    def test_a_damaged_record_has_its_test_run_again(self):
        notes = self.journal()
        notes["entry 1"] = notes["entry 1"][:-1]
        resumed = Journal(notes).read()
        done = [resumed.settle(item, lambda _, record: None) for item in self.ITEMS]
        self.assertEqual((done, resumed.damaged), ([True, False, True, True], 1))

    @drawn
    @given(st.data())
    def test_changed_notes(self, data):
        notes = self.journal()
        notes["finished"] = "1"
        names = st.lists(st.sampled_from(sorted(notes)), min_size=1, max_size=3, unique=True)
        for name in data.draw(names):
            before = notes[name]
            changed = st.one_of(
                changed_data(json.loads(before)),
                changed_bytes(before.encode()).map(lambda content: content.decode("latin-1")),
                ANY_JSON.map(json.dumps),
                st.just(DEEP),
            )
            notes[name] = data.draw(changed)
        for record in self.read(notes):
            self.assertIsInstance(record, TestRecord)


if __name__ == "__main__":
    unittest.main()
