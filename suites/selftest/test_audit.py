"""The audit names each planted fault: what is wrong, the calls, the lines and the ranks."""

from __future__ import annotations

import re
import unittest

from suites.samples import miscommunicates
from suites.samples.miscommunicates import FAULTS, NO_CALL
from suites.selftest.support import run_case

_FILE = r"miscommunicates(_groups)?\.py:\d+ in "


def ranks_of(line: str) -> set[int]:
    """Return the ranks that a row begins with: `ranks 0 and 1`, `ranks 0, 2-4`."""
    found = re.match(r"\s+ranks? ([\d, and-]+?)  ", line + "  ")
    ranks: set[int] = set()
    for part in re.split(r", | and ", found.group(1)) if found else ():
        first, _, last = part.strip().partition("-")
        ranks.update(range(int(first), int(last or first) + 1))
    return ranks


def rows(text: str) -> dict[int, list[str]]:
    """Return the rows of a report by rank."""
    by_rank: dict[int, list[str]] = {}
    for line in text.splitlines():
        for rank in ranks_of(line):
            by_rank.setdefault(rank, []).append(line)
    return by_rank


class TestPlanted(unittest.TestCase):
    def check(self, cls, name):
        declared = FAULTS[name]
        result = run_case(cls, name)
        with self.subTest(cls=cls.__name__, name=name):
            self.assertIn(result.status, {"failed", "error"}, result.text)
            words = declared.words
            if "Deadlocked" in result.text or "MismatchedCollectives" in result.text:
                words = ""  # reports of hangs and of thread ranks have other words
            self.assertIn(words, result.text)
            if "MismatchedCollectives" in result.text:
                self.check_mismatch(declared, result.text)
            else:
                self.check_rows(declared, result.text, name)

    def check_mismatch(self, declared, text):
        """The rank that came last gets an error with its call, and with that of the first."""
        ranks = [
            rank
            for rank, call in declared.calls.items()
            if re.search(rf"{re.escape(call)}.* on rank {rank}", text)
        ]
        self.assertGreaterEqual(len(ranks), 2, text)

    def check_rows(self, declared, text, name):
        found = rows(text)
        for rank, call in declared.calls.items():
            # The same call as in a table, without the width of its columns.
            lines = [re.sub(r"\s+", " ", line) for line in found.get(rank, [])]
            if call == NO_CALL and "Deadlocked" in text:
                self.assertIn(f"rank {rank} never reached", text)
            elif call:
                mine = [line for line in lines if call in line]
                self.assertTrue(mine, f"rank {rank}: {call!r} not in {lines}\n{text}")
                if call != NO_CALL:
                    self.assertRegex("\n".join(mine), rf"{_FILE}({name}|<listcomp>)")

    def run_all(self, *classes, only_threads=False):
        for cls in classes:
            for name in unittest.defaultTestLoader.getTestCaseNames(cls):
                if FAULTS[name].on_threads or not only_threads:
                    self.check(cls, name)

    def test_on_processes(self):
        self.run_all(miscommunicates.TwoRanks, miscommunicates.ThreeRanks, miscommunicates.TwoFake)

    def test_in_reused_worlds(self):
        self.run_all(miscommunicates.TwoReused, miscommunicates.ThreeReused)

    def test_on_threads(self):
        self.run_all(miscommunicates.TwoThreads, miscommunicates.ThreeThreads, only_threads=True)

    def test_as_many_as_are_declared(self):
        self.assertGreaterEqual(len(FAULTS), 40)
