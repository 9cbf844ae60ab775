"""The runner and unittest agree on what became of every test of many small suites."""

from __future__ import annotations

import sys
from collections import Counter

sys.path.insert(0, __file__.rpartition("/")[0])

from corpus import Counts, counts_of_results, counts_of_unittest, suites
from support import CommandTestCase


class TestCorpus(CommandTestCase):
    """All suites in one run: there are many, and each takes no time."""

    def setUp(self) -> None:
        super().setUp()
        for module, source in suites().items():
            (self.folder / f"{module}.py").write_text(source)

    def counts(self, *options: str) -> Counts:
        results = self.sandbox.base / "results"
        done = self.harness(".", "--no-history", "--results", str(results), *options)
        self.assertIn(done.code, (0, 1, 5), done.err)
        return counts_of_results(results, done.out, done.code)

    def assert_agrees(self, *options: str) -> Counts:
        ours, theirs = self.counts(*options), counts_of_unittest(self.folder)
        self.assertEqual(ours.outcomes - theirs.outcomes, Counter(), "only the runner says this")
        self.assertEqual(theirs.outcomes - ours.outcomes, Counter(), "only unittest says this")
        self.assertEqual(ours.not_run, theirs.not_run)
        self.assertEqual(ours.code != 0, theirs.code != 0)
        return ours

    def check_all(self, jobs: str) -> None:
        ours = self.assert_agrees("-j", jobs)
        self.assertGreaterEqual(len(suites()), 40)
        self.assertGreater(ours.outcomes.total(), 800)
        self.assertGreater(ours.not_run, 0)
        self.assertEqual(ours.code, 1)

    def test_in_the_runners_process(self) -> None:
        self.check_all("0")

    def test_in_one_worker(self) -> None:
        self.check_all("1")

    def test_in_four_workers(self) -> None:
        self.check_all("4")
