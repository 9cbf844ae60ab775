"""PyTorch's lists of disabled and of slow tests: what they leave out, and bad ones."""

from __future__ import annotations

import json
import unittest
from unittest import mock

from harness.runner.selection import pytorch_lists
from harness.runner.selection.pytorch_lists import TestLists, is_marked_slow
from suites.selftest.support import FolderTestCase

ISSUE = "https://example.org/issues/1"
TEST = "distributed.test_math.TestMath.test_add"


class ListsTestCase(FolderTestCase):
    def file(self, content):
        path = self.folder / "list.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(path)

    def disabled(self, content, **environ):
        return TestLists.from_environ({"DISABLED_TESTS_FILE": self.file(content), **environ})

    def slow(self, content, **environ):
        return TestLists.from_environ({"SLOW_TESTS_FILE": self.file(content), **environ})


class TestWhichTestsAKeyMeans(ListsTestCase):
    def means(self, key, test_id):
        reason = self.disabled({key: [ISSUE, []]}).skip_reason(test_id)
        self.assertIn(reason, (None, f"disabled: {ISSUE}"))
        return reason is not None

    def test_class_and_method(self):
        key = "test_add (__main__.TestMath)"
        self.assertTrue(self.means(key, TEST))
        self.assertTrue(self.means(key, "__main__.TestMath.test_add"))
        self.assertFalse(self.means(key, "test_math.TestMath.test_add_more"))
        self.assertFalse(self.means(key, "test_math.TestOther.test_add"))
        self.assertFalse(self.means(key, "TestMath.test_add.test_other"))

    def test_the_module_of_the_key_is_not_looked_at(self):
        self.assertTrue(self.means("test_add (TestMath)", TEST))
        self.assertTrue(self.means("test_add (somewhere.else.TestMath)", TEST))

    def test_classes_whose_name_begins_so(self):
        self.assertTrue(self.means("test_add (__main__.TestMath)", "m.TestMathCPU.test_add"))
        self.assertFalse(self.means("test_add (__main__.TestMathCPU)", "m.TestMath.test_add"))

    def test_a_class_within_a_function(self):
        self.assertTrue(self.means("test_a (__main__.TestX)", "m.make.<locals>.TestX.test_a"))

    def test_device_and_dtype_appended(self):
        key = "test_add (__main__.TestMath)"
        for name in ("test_add_cpu_float32", "test_add_cuda_bfloat16", "test_add_bool"):
            self.assertTrue(self.means(key, f"m.TestMathCPU.{name}"), name)
        for name in ("test_add_cpu", "test_add_cuda", "test_add_big_cpu_float32", "test_add_float"):
            self.assertFalse(self.means(key, f"m.TestMathCPU.{name}"), name)

    def test_one_dtype_alone(self):
        key = "test_add_cpu_int8 (__main__.TestMathCPU)"
        self.assertTrue(self.means(key, "m.TestMathCPU.test_add_cpu_int8"))
        self.assertFalse(self.means(key, "m.TestMathCPU.test_add_cpu_int16"))

    def test_names_that_are_no_tests(self):
        for name in ("", "module", "setUpClass (m.TestMath)", "_float32", "a..b"):
            self.assertFalse(self.means("test_add (__main__.TestMath)", name), name)


class TestDisabled(ListsTestCase):
    def reason(self, platforms, platform="linux", **environ):
        with mock.patch.object(pytorch_lists.sys, "platform", platform):
            found = self.disabled({"test_add (__main__.TestMath)": [ISSUE, platforms]}, **environ)
        return found.skip_reason(TEST)

    def test_platforms(self):
        for platforms in ([], ["linux"], ["rocm", "linux"]):
            self.assertEqual(self.reason(platforms), f"disabled: {ISSUE}", platforms)
        for platforms in (["mac"], ["win", "windows"], ["macos", "asan"]):
            self.assertIsNone(self.reason(platforms), platforms)
        self.assertIsNotNone(self.reason(["mac"], platform="darwin"))
        self.assertIsNotNone(self.reason(["win"], platform="win32"))

    def test_platforms_that_a_variable_makes(self):
        for name, variable in {
            "asan": "PYTORCH_TEST_WITH_ASAN",
            "rocm": "PYTORCH_TEST_WITH_ROCM",
            "dynamo": "PYTORCH_TEST_WITH_DYNAMO",
            "dynamo_wrapped": "PYTORCH_TEST_WITH_DYNAMO",
            "inductor": "PYTORCH_TEST_WITH_INDUCTOR",
            "slow": "PYTORCH_TEST_WITH_SLOW",
        }.items():
            self.assertIsNone(self.reason([name], **{variable: "0"}), name)
            self.assertIsNotNone(self.reason([name], **{variable: "1"}), name)
        self.assertIsNotNone(self.reason(["dynamo"], PYTORCH_TEST_WITH_INDUCTOR="1"))

    def test_platforms_that_the_build_of_torch_makes(self):
        for version, expected in {"2.13.0+rocm7.0": ["rocm"], "2.13.0+xpu": ["xpu"]}.items():
            with mock.patch.object(
                pytorch_lists.importlib.metadata, "version", lambda name, v=version: v
            ):
                found = [name for name in ("rocm", "xpu") if self.reason([name])]
            self.assertEqual(found, expected)

    def test_platforms_that_nobody_knows(self):
        found = self.disabled({"test_add (__main__.TestMath)": [ISSUE, ["linucks", "mac"]]})
        self.assertIsNone(found.skip_reason(TEST))
        line = f"DISABLED_TESTS_FILE: {ISSUE} names unknown platforms: linucks"
        self.assertEqual(found.problems, (line,))
        self.assertIsNotNone(self.reason(["linucks"]))

    def test_a_problem_is_one_line_whatever_the_list_has(self):
        found = self.disabled({"test_add (__main__.TestMath)": ["issue\n1", ["a\nb", "\x1b[1m"]]})
        line = r"issue\n1 names unknown platforms: \x1b[1m, a\nb"
        self.assertEqual(found.problems, (f"DISABLED_TESTS_FILE: {line}",))

    def test_the_second_entry_counts_where_the_first_does_not(self):
        entries = {
            "test_add (__main__.TestMath)": ["first", ["mac"]],
            "test_add (__main__.TestM)": ["second", []],
        }
        self.assertEqual(self.disabled(entries).skip_reason(TEST), "disabled: second")

    def test_in_metas_sandbox_the_list_is_left_alone(self):
        self.assertIsNone(self.reason([], SANDCASTLE="1"))
        self.assertIsNone(self.reason([], TW_JOB_USER="sandcastle"))
        self.assertIsNotNone(self.reason([], TW_JOB_USER="sandcastle", SANDCASTLE="0"))

    def test_ci_makes_no_difference(self):
        self.assertIsNotNone(self.reason([], CI="true"))
        self.assertIsNone(TestLists.from_environ({"CI": "true"}).skip_reason(TEST))


class TestSlow(ListsTestCase):
    ENTRY = {"test_add (__main__.TestMath)": 61.5}
    REASON = "slow: runs with PYTORCH_TEST_WITH_SLOW=1"

    def test_listed(self):
        self.assertEqual(self.slow(self.ENTRY).skip_reason(TEST), self.REASON)
        self.assertIsNone(self.slow(self.ENTRY).skip_reason("m.TestMath.test_sub"))

    def test_marked(self):
        self.assertEqual(TestLists().skip_reason(TEST, marked_slow=True), self.REASON)

    def test_with_slow(self):
        for value, runs in {"1": True, "0": False, "true": False, "": False}.items():
            found = self.slow(self.ENTRY, PYTORCH_TEST_WITH_SLOW=value)
            self.assertEqual(found.skip_reason(TEST) is None, runs, value)
            self.assertEqual(found.skip_reason("m.T.test", marked_slow=True) is None, runs, value)

    def test_without_the_fast(self):
        switches = {"PYTORCH_TEST_SKIP_FAST": "1", "PYTORCH_TEST_WITH_SLOW": "1"}
        found = self.slow(self.ENTRY, **switches)
        self.assertIsNone(found.skip_reason(TEST))
        self.assertIsNone(found.skip_reason("m.T.test", marked_slow=True))
        self.assertEqual(
            found.skip_reason("m.T.test"), "fast: left out by PYTORCH_TEST_SKIP_FAST=1"
        )

    def test_a_slow_test_can_be_disabled(self):
        path = self.folder / "disabled"
        path.write_text(json.dumps({"test_add (__main__.TestMath)": [ISSUE, []]}))
        variables = {"DISABLED_TESTS_FILE": str(path), "PYTORCH_TEST_WITH_SLOW": "1"}
        found = self.slow(self.ENTRY, **variables)
        self.assertEqual(found.skip_reason(TEST), f"disabled: {ISSUE}")

    def test_the_mark_of_the_decorator(self):
        class Marked(unittest.TestCase):
            def test_slow(self):
                pass

            def test_fast(self):
                pass

            test_slow.slow_test = True

        self.assertTrue(is_marked_slow(Marked("test_slow")))
        self.assertFalse(is_marked_slow(Marked("test_fast")))
        self.assertFalse(is_marked_slow(unittest.FunctionTestCase(print)))


class TestNoLists(ListsTestCase):
    def test_nothing_is_left_out(self):
        empty = {"DISABLED_TESTS_FILE": "", "SLOW_TESTS_FILE": ""}
        for environ in ({}, empty):
            found = TestLists.from_environ(environ)
            self.assertIsNone(found.skip_reason(TEST))
            self.assertEqual(found.problems, ())

    def test_the_environment_of_the_process(self):
        path = self.file({"test_add (__main__.TestMath)": [ISSUE, []]})
        with mock.patch.dict("os.environ", DISABLED_TESTS_FILE=path):
            self.assertEqual(TestLists.from_environ().skip_reason(TEST), f"disabled: {ISSUE}")


class TestBadLists(ListsTestCase):
    def problem(self, variable, path):
        found = TestLists.from_environ({variable: str(path)})
        self.assertIsNone(found.skip_reason(TEST))
        (line,) = found.problems
        self.assertNotIn("\n", line)
        self.assertTrue(line.startswith(f"{variable}: {path}"), line)
        return line

    def test_files_that_cannot_be_read(self):
        nested = "[" * 100_000
        for variable in ("DISABLED_TESTS_FILE", "SLOW_TESTS_FILE"):
            self.assertIn("No such file", self.problem(variable, "/nowhere/list.json"))
            self.assertIn("Is a directory", self.problem(variable, self.folder))
            for content in ("", '{"test_add (', "<html>", nested):
                self.assertIn("not JSON", self.problem(variable, self.file(content)))
            for content in ("[]", "3", "null", '"text"'):
                self.assertIn("not a JSON object", self.problem(variable, self.file(content)))
        (self.folder / "bytes").write_bytes(b"\xff\xfe\x00")
        self.assertIn("not JSON", self.problem("SLOW_TESTS_FILE", self.folder / "bytes"))

    def test_entries_that_mean_no_test(self):
        bad = {
            "": [ISSUE, []],
            "test_add": [ISSUE, []],
            "test_a (m.T)": ISSUE,
            "test_b (m.T)": [ISSUE],
            "test_c (m.T)": [ISSUE, "linux"],
            "test_d (m.T)": [ISSUE, [1]],
            "test_e (m.T)": None,
            "test_f (m.T)": [None, []],
        }
        found = self.disabled({**bad, "test_add (m.TestMath)": [ISSUE, []]})
        (line,) = found.problems
        self.assertIn("8 of 9 entries are not valid; the run goes without them", line)
        self.assertEqual(found.skip_reason(TEST), f"disabled: {ISSUE}")
        for name in "abcdef":
            self.assertIsNone(found.skip_reason(f"m.T.test_{name}"), name)

    def test_slow_entries_that_mean_no_test(self):
        found = self.slow({"test_add": 1, "test_add (m.TestMath)": "any value"})
        (line,) = found.problems
        self.assertIn("1 of 2 entries are not valid; the run goes without them", line)
        self.assertIsNotNone(found.skip_reason(TEST))

    def test_both_files_bad(self):
        variables = {"DISABLED_TESTS_FILE": "/nowhere", "SLOW_TESTS_FILE": "/nowhere"}
        self.assertEqual(len(TestLists.from_environ(variables).problems), 2)
