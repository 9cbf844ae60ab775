"""Suites that are spread over machines: which part each runs, and one report of all parts."""

from __future__ import annotations

import json
import re
import unittest

from harness.model.errors import UsageError
from harness.runner.merging import merged
from harness.runner.reports.junit import write_junit
from harness.runner.reports.junit_input import read_junit
from harness.runner.reports.records import read_records, write_records
from harness.runner.results import Status
from harness.runner.selection.shard_auto import Share, share_of
from suites.selftest import report_runs
from suites.selftest.support import CommandTestCase, FolderTestCase


class TestShare(unittest.TestCase):
    def test_who_says_it(self):
        for environ, expected in (
            ({"RANK": "1", "WORLD_SIZE": "4"}, Share(2, 4, shards_by_process=True)),
            ({"SLURM_PROCID": "0", "SLURM_NTASKS": "2"}, Share(1, 2)),
            ({"CI_NODE_INDEX": "3", "CI_NODE_TOTAL": "3"}, Share(3, 3)),
            ({"CIRCLE_NODE_INDEX": "2", "CIRCLE_NODE_TOTAL": "3"}, Share(3, 3)),
            ({"BUILDKITE_PARALLEL_JOB": "0", "BUILDKITE_PARALLEL_JOB_COUNT": "9"}, Share(1, 9)),
        ):
            self.assertEqual(share_of(environ), expected)

    def test_slurm_arrays(self):
        def task(number, count, first, step):
            return {
                "SLURM_ARRAY_TASK_ID": number,
                "SLURM_ARRAY_TASK_COUNT": count,
                "SLURM_ARRAY_TASK_MIN": first,
                "SLURM_ARRAY_TASK_STEP": step,
            }

        self.assertEqual(share_of(task("0", "4", "0", "1")), Share(1, 4))
        self.assertEqual(share_of(task("13", "3", "5", "4")), Share(3, 3))

    def test_a_world_in_each_task_of_an_array(self):
        world = {"RANK": "1", "WORLD_SIZE": "2"}
        array = {"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_TASK_COUNT": "5"}
        self.assertEqual(share_of({**world, **array}), Share(1, 5))

    def test_nobody_says_it(self):
        with self.assertRaisesRegex(UsageError, "no environment variable says which shard"):
            share_of({"RANK": "1"})

    def test_what_is_no_part(self):
        for index, count in (("4", "4"), ("-1", "4"), ("x", "4"), ("0", "0")):
            with self.assertRaisesRegex(UsageError, f"RANK={index} and WORLD_SIZE={count}"):
                share_of({"RANK": index, "WORLD_SIZE": count})


class TestFiles(FolderTestCase):
    def setUp(self):
        super().setUp()
        self.path = self.folder / "report"

    def test_records_come_back_as_they_were(self):
        for run in (report_runs.ten(bad=True), report_runs.desync(), report_runs.nasty()):
            run.shard, run.shard_plan, run.remarks = (2, 3), "abc", ["a remark"]
            write_records(run, self.path)
            self.assertEqual(read_records(self.path), run)

    def test_what_is_no_file_of_records(self):
        for text in ("[]", "{}", '{"format": "harness records 1"}', "", "\x00"):
            self.path.write_text(text)
            with self.assertRaises(ValueError):
                read_records(self.path)

    def test_verdicts_come_back_from_junit(self):
        for run in (report_runs.ten(bad=True), report_runs.desync(), report_runs.nasty()):
            write_junit(run, self.path)
            found = read_junit(self.path)
            self.assertEqual(
                [record.status for record in found.records],
                [record.status for record in run.records],
            )
            self.assertEqual(found.counts, run.counts)
            self.assertEqual(found.exit_code, run.exit_code)
            self.assertEqual((found.seed, found.jobs), (run.seed, run.jobs))
            flaky = [record.is_flaky for record in run.records]
            self.assertEqual([record.is_flaky for record in found.records], flaky)

    def test_names_reasons_and_texts_come_back_from_junit(self):
        run = report_runs.ten(bad=True)
        write_junit(run, self.path)
        for found, record in zip(read_junit(self.path).records, run.records, strict=True):
            self.assertEqual(found.test_id, record.test_id)
            if record.status is Status.SKIPPED:
                self.assertEqual(found.reason, record.reason)
            for trouble in record.troubles:
                self.assertIn(trouble.text, found.troubles[0].text)

    def test_times_of_several_hosts_are_put_on_one_clock(self):
        first, second = report_runs.ten(), report_runs.ten()
        second.started_at += 30
        for record in second.records:
            record.started_s += 1000
            record.ranks = tuple(track.later(1000) for track in record.ranks)
        second.started_s += 1000
        whole = merged([first, second])
        self.assertEqual(len(whole.records), 20)
        self.assertAlmostEqual(whole.seconds, 30 + second.seconds)
        self.assertEqual({record.worker for record in whole.records}, {1, 2, 3, 4})
        starts = sorted(record.started_s for record in whole.records)
        self.assertAlmostEqual(starts[-1] - starts[9], 30)
        for record in whole.records:
            for track in record.ranks:
                self.assertGreaterEqual(track.phases[0].began_s, record.started_s)
                self.assertLessEqual(
                    track.phases[-1].ended_s, record.started_s + record.seconds + 1e-6
                )


class TestCommand(CommandTestCase):
    def setUp(self):
        super().setUp()
        self.write(
            "test_x.py",
            """
            import os, unittest
            class TestX(unittest.TestCase):
                def test_a(self): print("a says this")
                def test_b(self): self.assertEqual(1, int(os.environ.get("B", 1)))
                def test_c(self): self.skipTest("not today")
                def test_d(self): pass
                def test_e(self): pass
            """,
        )

    def shards(self, count: int, **env: str) -> list[str]:
        names = []
        for task in range(count):
            done = self.harness(
                "test_x.py", "--shard", "auto", "--no-history", "-j", "1",
                "--junit", "{shard}.xml", "--records", "{shard}.json",
                SLURM_ARRAY_TASK_ID=str(task), SLURM_ARRAY_TASK_COUNT=str(count), **env,
            )  # fmt: skip
            self.assertIn(f"shard {task + 1}/{count}: ", done.out)
            names.append(f"{task + 1}-of-{count}")
        return names

    def merge(self, *arguments: str):
        return self.harness_here("merge-reports", *arguments)

    def test_one_report_of_all(self):
        names = self.shards(3)
        for kind in ("json", "xml"):
            files = [f"{name}.{kind}" for name in names]
            done = self.merge(*files, "--junit", "all.xml", "--html", "all.html")
            self.assertEqual((done.code, done.last_line), (0, "4 passed, 0 failed, 1 skipped"))
            self.assertIn("1  not today", done.out)
            cases = re.findall(r'<testcase name="(test_.)"', (self.folder / "all.xml").read_text())
            self.assertEqual(cases, ["test_a", "test_b", "test_c", "test_d", "test_e"])
            self.assertIn("a says this", (self.folder / "all.html").read_text())

    def test_a_failure_stays_one(self):
        names = self.shards(2, B="2")
        for kind in ("json", "xml"):
            done = self.merge(*(f"{name}.{kind}" for name in names))
            self.assertEqual((done.code, done.last_line), (1, "3 passed, 1 failed, 1 skipped"))
            self.assertIn("AssertionError: 1 != 2", done.out)

    def test_a_shard_is_missing_or_there_twice(self):
        first, _, third = self.shards(3)
        done = self.merge(f"{first}.json", f"{third}.xml")
        self.assertEqual(done.code, 1)
        self.assertIn("missing: shard 2 of 3", done.out)
        done = self.merge(f"{first}.json", f"{first}.xml", f"{third}.xml")
        self.assertEqual(done.code, 1)
        self.assertIn("given twice: shard 1", done.out)

    def test_shards_of_different_plans(self):
        self.shards(2)
        (self.folder / "1-of-2.json").rename(self.folder / "before.json")
        self.write(
            "test_x.py", "import unittest\nclass TestY(unittest.TestCase):\n def test(self): 1"
        )
        _, second = self.shards(2)
        done = self.merge("before.json", f"{second}.json")
        self.assertEqual(done.code, 1)
        self.assertIn("these are not shards of one plan", done.out)

    def test_runs_that_are_no_shards(self):
        self.harness("test_x.py", "--no-history", "--records", "one.json", "-k", "test_a")
        self.harness("test_x.py", "--no-history", "--records", "two.json", "-k", "test_b")
        done = self.merge("one.json", "two.json", "--records", "both.json")
        self.assertEqual((done.code, done.last_line), (0, "2 passed, 0 failed, 0 skipped"))
        done = self.merge("both.json", "two.json")
        self.assertEqual(done.code, 1)
        self.assertIn("in several of the reports: test_x.TestX.test_b", done.out)

    def test_what_cannot_be_merged(self):
        self.write("other.xml", "<testsuites><testsuite name='x'/></testsuites>")
        self.write("broken.xml", "<testsuites><test")
        self.write("some.json", "{}")
        for file, why in (
            ("other.xml", "it is JUnit XML of another program"),
            ("broken.xml", "it is not JUnit XML"),
            ("some.json", "it was not written by --records"),
            ("none.json", "No such file or directory"),
        ):
            done = self.merge(file)
            self.assertEqual(done.code, 2)
            self.assertIn(f"{file} cannot be merged: {why}", done.err)

    def test_an_input_is_never_replaced(self):
        self.harness("test_x.py", "--no-history", "--records", "one.json")
        before = (self.folder / "one.json").read_bytes()
        (self.folder / "link.json").symlink_to("one.json")
        (self.folder / "hard.json").hardlink_to(self.folder / "one.json")
        for output in ("one.json", "./one.json", "link.json", "hard.json"):
            for option in ("--records", "--junit", "--html", "--trace"):
                done = self.merge("one.json", option, output, "--max-skips", "9")
                self.assertEqual((done.code, done.out), (2, ""))
                overwrites = f"{option} .*json would overwrite one.json, which is an input"
                self.assertRegex(done.err, overwrites)
        done = self.merge("link.json", "--records", "hard.json")
        self.assertEqual(done.code, 2)
        self.assertEqual((self.folder / "one.json").read_bytes(), before)
        done = self.merge("one.json", "--records", "other.json")
        self.assertEqual(done.code, 0, done.err)

    def test_a_broken_input_costs_nothing(self):
        self.harness("test_x.py", "--no-history", "--records", "one.json")
        self.write("all.json", "of yesterday")
        self.write("deep.json", "[" * 100_000)
        self.write("list.json", "[1]")
        (self.folder / "empty.json").touch()
        for name, told in (
            ("deep", "nested too deeply"),
            ("list", "by --records"),
            ("empty", "JSON"),
        ):
            done = self.merge("one.json", f"{name}.json", "--records", "all.json")
            self.assertEqual((done.code, done.out, len(done.err.splitlines())), (2, "", 1))
            self.assertRegex(done.err, f"{name}.json cannot be merged: .*{told}")
        self.assertEqual((self.folder / "all.json").read_text(), "of yesterday")

    def test_a_number_of_shards_beyond_all_bounds(self):
        self.harness("test_x.py", "--no-history", "--records", "one.json")
        data = json.loads((self.folder / "one.json").read_text())
        (self.folder / "one.json").write_text(json.dumps({**data, "shard": [2, 10**15]}))
        done = self.merge("one.json")
        self.assertEqual(done.code, 1)
        self.assertRegex(done.out, "missing: shard 1, 3, .* 21, and 999999999999979 more of 10{15}")

    def test_nobody_says_which_shard(self):
        done = self.harness("test_x.py", "--shard", "auto")
        self.assertEqual(done.code, 2)
        self.assertIn("--shard auto: no environment variable says which shard", done.err)

    def test_processes_of_a_world_would_write_the_same_report(self):
        world = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "x", "MASTER_PORT": "1"}
        done = self.harness("test_x.py", "--shard", "auto", "--junit", "j.xml", **world)
        self.assertEqual(done.code, 2)
        self.assertIn("put {shard} into the path", done.err)


if __name__ == "__main__":
    unittest.main()
