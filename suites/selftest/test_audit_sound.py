"""The audit finds nothing in correct programs, however differently their ranks communicate."""

from __future__ import annotations

import random
import sys
import unittest

import torch

from harness.ranks.regions import region_of
from suites.samples import communicates, communicates_groups, communicates_messages
from suites.selftest.support import ROOT, CommandTestCase, run_case


class Files(CommandTestCase):
    """Whole files, in one command each."""

    def assert_passes(self, name, least):
        runner, path = ROOT / "run_tests.py", ROOT / "suites" / "samples" / f"{name}.py"
        done = self.run_command(
            sys.executable,
            str(runner),
            str(path),
            "--jobs=2",
            "--no-history",
            cwd=ROOT,
        )
        self.assertEqual(done.code, 0, done.out + done.err)
        self.assertRegex(done.last_line, r"^\d+ passed, 0 failed, 0 skipped")
        self.assertGreaterEqual(int(done.last_line.split()[0]), least)
        # The audit's own mode does not stay behind.
        self.assertNotIn("dispatch modes", done.out + done.err)

    def test_collectives(self):
        self.assert_passes("communicates", 100)

    def test_backend(self):
        self.assert_passes("communicates_backend", 15)

    def test_groups(self):
        self.assert_passes("communicates_groups", 45)

    def test_messages(self):
        self.assert_passes("communicates_messages", 35)

    def test_training(self):
        self.assert_passes("communicates_training", 35)


class InThisProcess(unittest.TestCase):
    """Some of them, for a debugger."""

    def passes(self, cls, method):
        result = run_case(cls, method)
        self.assertEqual(result.status, "passed", result.text)

    def test_columns_beside_a_row_part(self):
        for cls in (communicates.InProcesses, communicates.InThreads):
            with self.subTest(cls.__name__):
                self.passes(cls, "test_columns_beside_a_row_part_in_flight")

    def test_another_thread_waits(self):
        self.passes(communicates.InThreads, "test_two_threads_one_waits")

    def test_ranks_numbered_anew(self):
        cls = communicates_groups.GroupsInProcesses
        self.passes(cls, "test_world_is_destroyed_and_made_again")

    def test_length_from_any_source(self):
        self.passes(communicates_messages.Messages, "test_length_from_any_source_then_its_data")


class Memory(unittest.TestCase):
    """Whether two tensors share memory, compared with the elements that they have."""

    def test_overlap_is_exact(self):
        draw = random.Random(1)
        base = torch.arange(200)

        def some_tensor():
            dimensions = range(draw.randint(0, 3))
            size = [draw.randint(1, 4) for _ in dimensions]
            stride = [draw.choice([0, 1, 2, 3, 5, 7, 12, 20]) for _ in dimensions]
            return base.as_strided(size, stride, draw.randint(0, 15))

        found = set()
        for _ in range(3000):
            one, other = some_tensor(), some_tensor()
            shared = bool(set(one.flatten().tolist()) & set(other.flatten().tolist()))
            regions = region_of(one, True), region_of(other, True)
            self.assertEqual(regions[0].overlaps(regions[1]), shared, (one, other))
            self.assertEqual(regions[1].overlaps(regions[0]), shared, (one, other))
            found.add(shared)
        self.assertEqual(found, {False, True})

    def test_other_storages_are_apart(self):
        one, other = torch.ones(3), torch.ones(3)  # alive together
        self.assertFalse(region_of(one, True).overlaps(region_of(other, True)))

    def test_no_memory(self):
        for tensor in (torch.ones(0), torch.ones(2).to_sparse()):
            self.assertIsNone(region_of(tensor, True))


if __name__ == "__main__":
    unittest.main()
