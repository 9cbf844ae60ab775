"""The runner and unittest agree on what became of every test of many small suites."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from suites.selftest.corpus import HEAD, drawn_suite, suites
from suites.selftest.corpus_counts import Counts, counts_of_results, counts_of_unittest
from suites.selftest.support import CommandTestCase


class TestCorpus(CommandTestCase):
    """All suites in one run: there are many, and each takes no time."""

    def write_all(self, sources: Mapping[str, str]) -> None:
        for module, source in sources.items():
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
        # 5 is for a run in which nothing ran, which unittest tells from others since Python 3.12.
        self.assertEqual(ours.code == 1, theirs.code == 1)
        return ours

    def check_all(self, jobs: str) -> None:
        self.write_all(suites())
        ours = self.assert_agrees("-j", jobs)
        self.assertGreaterEqual(len(suites()), 300)
        self.assertGreater(ours.outcomes.total(), 2000)
        self.assertGreater(ours.not_run, 0)
        self.assertEqual(ours.code, 1)

    def test_in_the_runners_process(self) -> None:
        self.check_all("0")

    def test_in_one_worker(self) -> None:
        self.check_all("1")

    def test_in_four_workers(self) -> None:
        self.check_all("4")

    # Each example is some suites, run twice by us and once by unittest: too long to be shrunk.
    @settings(
        max_examples=5,
        phases=(Phase.explicit, Phase.generate),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def test_drawn_suites(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(1, 20))
        choices = _Drawing(data)
        sources = {f"test_{i}": HEAD + drawn_suite(choices) for i in range(number)}
        for path in self.folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        self.write_all(sources)
        for jobs in ("0", "2"):
            self.assert_agrees("-j", jobs)


class _Drawing:
    """Has Hypothesis decide what is in a suite."""

    def __init__(self, data: st.DataObject) -> None:
        self._data = data

    def choose(self, options: Sequence[str]) -> str:
        return self._data.draw(st.sampled_from(options))

    def count(self, low: int, high: int) -> int:
        return self._data.draw(st.integers(low, high))
