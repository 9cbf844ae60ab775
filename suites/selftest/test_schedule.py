"""Which worker gets which test next: the bookkeeping alone, without a process or a clock."""

from __future__ import annotations

import unittest

from harness.runner.selection.planned_test import PlannedTest
from harness.runner.workers.schedule import Item, Schedule


def items(*names, **more):
    """Tests of one class, by name, with what they are."""
    return [
        Item(number, PlannedTest(f"m.C.{name}", "m.C", **more)) for number, name in enumerate(names)
    ]


def schedule(found, seconds, **more):
    """Two workers for these tests, each of which is known to take so long."""
    durations = {item.test.test_id: seconds for item in found}
    made = Schedule(durations, workers=2, max_ranks=more.pop("max_ranks", 8), **more)
    made.add(found)
    return made


def names(taken):
    return [item.test.test_id.rpartition(".")[2] for item in taken]


class TestSharedFixtures(unittest.TestCase):
    def drain(self, made):
        """Have two workers take turns to the end; returns what each has run."""
        ran = {1: [], 2: []}
        while made.waiting:
            for worker in ran:
                taken = made.take(worker)
                ran[worker] += names(taken)
                for item in taken:
                    made.done(item, 1.0)
        return ran

    def test_a_long_one_is_shared_by_halves(self):
        made = schedule(items("a", "b", "c", "d", fixture="m.C"), seconds=1.0)
        self.assertEqual(names(made.take(1)), ["a"])
        self.assertEqual(names(made.take(2)), ["c"])
        self.assertEqual(made.waiting, 2)

    def test_every_test_runs_once(self):
        found = items(*"abcdefghi", fixture="m.C")
        ran = self.drain(schedule(found, seconds=1.0))
        self.assertEqual(sorted(ran[1] + ran[2]), list("abcdefghi"))
        self.assertGreater(len(ran[2]), 1)

    def test_a_short_one_stays_with_its_worker(self):
        made = schedule(items("a", "b", "c", fixture="m.C"), seconds=0.1)
        self.assertEqual(names(made.take(1)), ["a"])
        self.assertEqual(made.take(2), [])

    def test_what_is_left_of_a_dead_worker_goes_to_another(self):
        made = schedule(items("a", "b", fixture="m.C"), seconds=0.1)
        made.take(1)
        made.release_fixtures(1)
        self.assertEqual(names(made.take(2)), ["b"])

    def test_the_half_that_is_taken_must_fit(self):
        """Its first test, that is, not the first of the whole."""
        found = items("a", "b", "c", "d", fixture="m.C")
        busy = Item(9, PlannedTest("m.D.x", "m.D", resources=frozenset({"port"})))
        found[2] = Item(
            2, PlannedTest("m.C.c", "m.C", fixture="m.C", resources=busy.test.resources)
        )
        made = Schedule({**{f"m.C.{n}": 1.0 for n in "abcd"}, "m.D.x": 9.0}, 3, max_ranks=8)
        made.add([*found, busy])
        self.assertEqual(names(made.take(3)), ["x"])
        self.assertEqual(names(made.take(1)), ["a"])
        self.assertEqual(made.take(2), [])
        made.done(busy, 9.0)
        self.assertEqual(names(made.take(2)), ["c"])

    def test_the_next_round_goes_under_the_same_fixture(self):
        found = items("a", "b", fixture="m.C")
        made = schedule(found, seconds=0.1)
        made.take(1)
        made.add([Item(item.number, item.test, round=2) for item in found])
        self.assertEqual(made.waiting, 3)
        self.assertEqual(made.take(2), [])


class TestBounds(unittest.TestCase):
    def test_ranks_alive_at_once(self):
        made = schedule(items("a", "b", ranks=3), seconds=1.0, max_ranks=4)
        (first,) = made.take(1)
        self.assertEqual(made.take(2), [])
        made.done(first, 1.0)
        self.assertEqual(names(made.take(2)), ["b"])

    def test_a_test_with_more_ranks_than_that_runs_without_others(self):
        made = schedule(items("a", ranks=9), seconds=1.0, max_ranks=4)
        self.assertEqual(names(made.take(1)), ["a"])

    def test_devices_are_lent_to_one_at_a_time(self):
        made = schedule(items("a", "b", devices=1), seconds=1.0, devices=("0",))
        (first,) = made.take(1)
        self.assertEqual(first.devices, ("0",))
        self.assertEqual(made.take(2), [])

    def test_serial_ones_come_last_and_alone(self):
        (alone,) = items("a", is_serial=True)
        (other,) = items("b")
        made = schedule([alone, other], seconds=1.0)
        self.assertEqual(names(made.take(1)), ["b"])
        self.assertEqual(made.take(2), [])
        made.done(other, 1.0)
        self.assertEqual(names(made.take(2)), ["a"])
        self.assertEqual(made.take(1), [])


if __name__ == "__main__":
    unittest.main()
