"""Classes that PyTorch's instantiation for devices makes, and pytest with nothing configured."""

from __future__ import annotations

import sys

from suites.selftest.support import ROOT, CommandTestCase

_SAMPLE = "suites/samples/generic.py"
_PARAMETRIZED = "suites/samples/parametrized.py"


class TestGeneric(CommandTestCase):
    def pytest(self, *arguments):
        return self.run_command(
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments), cwd=ROOT
        )

    def test_workers_of_pytest(self):
        finished = self.pytest("-n", "2", _SAMPLE, _PARAMETRIZED)
        self.assertIn("1 failed, 10 passed", finished.out, finished.err)
        self.assertIn("harness.RanksFailedError: 2 of 2 ranks failed", finished.out)
        self.assertEqual(finished.left_processes, [])

    def test_until_the_first_failure(self):
        finished = self.pytest("-x", _PARAMETRIZED)
        self.assertIn("1 failed", finished.out, finished.err)
        self.assertNotIn("3 passed", finished.out)
        self.assertEqual(finished.left_processes, [])


class TestOutOfTree(CommandTestCase):
    def test_a_backend_of_somebody_elses(self):
        finished = self.harness("suites.samples.homemade", "--isolation", "group")
        self.assertEqual(finished.last_line, "4 passed, 0 failed, 0 skipped", finished.out)
        self.assertNotIn("StateLeakWarning", finished.err)
        self.assert_clean(finished)
