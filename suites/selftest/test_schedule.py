"""Which worker gets which test next: the bookkeeping alone, without a process or a clock."""

from __future__ import annotations

import unittest

from harness.runner.selection.planned_test import PlannedTest
from harness.runner.workers.schedule import Item, Schedule


def items(*names, first=0, **more):
    """Tests of one class, by name, with what they are; the first has this number in the plan."""
    return [
        Item(number, PlannedTest(f"m.C.{name}", "m.C", **more))
        for number, name in enumerate(names, first)
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

    def test_it_is_shared_only_while_enough_of_it_is_left(self):
        made = schedule(items("a", "b", "c", fixture="m.C"), seconds=0.4)
        self.assertEqual(names(made.take(1)), ["a"])
        self.assertEqual(made.take(2), [])

    def test_what_is_left_after_sharing_counts(self):
        made = schedule(items(*"abcdefgh", fixture="m.C"), seconds=0.25)
        self.assertEqual(names(made.take(1)), ["a"])
        self.assertEqual(names(made.take(2)), ["e"])
        self.assertEqual(made.take(3), [])

    def test_the_next_round_goes_under_the_same_fixture(self):
        found = items("a", "b", fixture="m.C")
        made = schedule(found, seconds=0.1)
        made.take(1)
        made.add([Item(item.number, item.test, round=2) for item in found])
        self.assertEqual(made.waiting, 3)
        self.assertEqual(made.take(2), [])


class TestOrder(unittest.TestCase):
    def order(self, found, durations, workers=2, **more):
        """The order in which they are handed out, each when the one before is done."""
        made = Schedule(durations, workers, max_ranks=8, **more)
        made.add(found)
        taken = []
        while made.waiting:
            for item in made.take(1):
                taken.append(item)
                made.done(item, 1.0)
        return names(taken)

    DURATIONS = {"m.C.a": 0.5, "m.C.b": 2.0, "m.C.c": 1.0}

    def test_long_ones_first(self):
        self.assertEqual(self.order(items("a", "b", "c"), self.DURATIONS), ["b", "c", "a"])

    def test_as_they_come(self):
        found = items("a", "b", "c")
        self.assertEqual(self.order(found, self.DURATIONS, in_order=True), ["a", "b", "c"])

    def test_one_worker_gains_nothing_from_another_order(self):
        found = items("a", "b", "c")
        self.assertEqual(self.order(found, self.DURATIONS, workers=1), ["a", "b", "c"])

    def test_ranks_count(self):
        found = [*items("a", ranks=4), *items("b", "c", first=1)]
        durations = {"m.C.a": 0.6, "m.C.b": 2.0, "m.C.c": 1.0}
        self.assertEqual(self.order(found, durations), ["a", "b", "c"])

    def test_those_with_ranks_are_thought_to_take_longer(self):
        found = [*items("a"), *items("b", first=1, ranks=2)]
        self.assertEqual(self.order(found, {}), ["b", "a"])

    def test_a_fixture_counts_with_all_that_share_it(self):
        (long,), (shared, more) = items("long"), items("x", "y", first=1, fixture="m.C")
        made = Schedule({"m.C.long": 1.5, "m.C.x": 1.0, "m.C.y": 1.0}, 2, max_ranks=8)
        made.add([long, shared])
        made.add([more])
        self.assertEqual(names(made.take(1)), ["x"])


class TestPortions(unittest.TestCase):
    """Short tests are handed out several at a time."""

    def test_as_many_as_fit_into_a_moment(self):
        made = schedule(items(*"abcdefgh"), seconds=0.012)
        self.assertEqual(names(made.take(1)), [*"abcd"])
        self.assertEqual(names(made.take(2)), [*"efgh"])

    def test_there_is_a_limit(self):
        made = schedule(items(*map(str, range(200))), seconds=0.0)
        self.assertEqual(len(made.take(1)), 64)
        self.assertEqual(made.waiting, 136)

    def test_those_that_nothing_is_known_of_go_alone(self):
        made = Schedule({}, 2, max_ranks=8)
        made.add(items(*"abcdef"))
        (first,) = made.take(1)
        made.done(first, 0.02)
        # Others of the class are thought to take as long.
        self.assertEqual(names(made.take(1)), ["b", "c"])

    def test_those_that_use_something_go_alone(self):
        for number, taken in ((2, ["a"]), (0, ["b"])):
            with self.subTest(taken):
                found = [*items("a", first=1), *items("b", first=number, ranks=1)]
                made = schedule(found, seconds=0.001, in_order=True)
                self.assertEqual(names(made.take(1)), taken)

    def test_those_under_a_fixture_are_not_mixed_with_others(self):
        for number, taken in ((2, ["a"]), (0, ["b"])):
            with self.subTest(taken):
                found = [*items("a", first=1), *items("b", first=number, fixture="m.C")]
                made = schedule(found, seconds=0.001, in_order=True)
                self.assertEqual(names(made.take(1)), taken)

    def test_but_with_each_other(self):
        made = schedule(items("a", "b", "c", fixture="m.C"), seconds=0.001)
        self.assertEqual(names(made.take(1)), ["a", "b", "c"])


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

    def test_so_does_nothing_else_while_one_runs(self):
        (alone,), (other,) = items("a", is_serial=True), items("b", first=1)
        made = schedule([alone], seconds=1.0)
        made.take(1)
        made.add([other])
        self.assertEqual(made.take(2), [])
        made.done(alone, 1.0)
        self.assertEqual(names(made.take(2)), ["b"])

    def test_they_wait_for_the_tests_under_a_fixture_of_another_worker(self):
        (alone,) = items("a", is_serial=True)
        first, second = items("b", "c", first=1, fixture="m.C")
        made = schedule([alone, first, second], seconds=0.1)
        self.assertFalse(made.only_serial_left)
        made.take(1)
        made.done(first, 0.1)
        self.assertEqual(made.take(2), [])
        self.assertEqual(names(made.take(1)), ["c"])
        self.assertTrue(made.only_serial_left)

    def test_a_worker_runs_one_thing_at_a_time(self):
        made = schedule(items("a", "b"), seconds=1.0)
        made.take(1)
        self.assertEqual(made.take(1), [])

    def test_ranks_do_not_keep_tests_without_ranks_waiting(self):
        made = schedule([*items("a", ranks=9), *items("b", first=1)], seconds=1.0, max_ranks=4)
        self.assertEqual(names(made.take(1)), ["a"])
        self.assertEqual(names(made.take(2)), ["b"])

    def test_each_test_has_devices_of_its_own(self):
        made = schedule(items("a", "b", devices=2), seconds=1.0, devices=("4", "5", "6", "7"))
        ((first,), (second,)) = made.take(1), made.take(2)
        self.assertEqual((first.devices, second.devices), (("4", "5"), ("6", "7")))

    def test_one_that_wants_more_devices_than_there_are_gets_none_but_waits_for_all(self):
        (one,), (many,) = items("a", devices=1), items("b", first=1, devices=3)
        made = schedule([one, many], seconds=1.0, devices=("0", "1"), in_order=True)
        (first,) = made.take(1)
        self.assertEqual(made.take(2), [])
        made.done(first, 1.0)
        (second,) = made.take(2)
        self.assertEqual((names([second]), second.devices), (["b"], ()))


class TestComingBack(unittest.TestCase):
    def test_another_attempt_holds_no_devices(self):
        (item,) = items("a", devices=1)
        made = schedule([item], seconds=1.0, devices=("0",))
        (taken,) = made.take(1)
        again = taken.next_attempt()
        self.assertEqual((again.attempt, again.round, again.devices), (2, 1, ()))

    def test_what_was_not_begun_is_handed_out_again(self):
        made = schedule(items("a", "b", devices=1), seconds=1.0, devices=("0",))
        (first,) = made.take(1)
        made.put_back(first)
        self.assertEqual((made.waiting, made.running), (2, 0))
        (second,) = made.take(2)
        self.assertEqual((names([second]), second.devices), (["a"], ("0",)))
        made.done(second, 1.0)
        self.assertEqual(names(made.take(1)), ["b"])

    def test_it_holds_nothing_meanwhile(self):
        found = items("a", "b", devices=1)
        made = schedule(found, seconds=1.0, devices=("0",))
        (first,) = made.take(1)
        made.put_back(first)
        self.assertEqual({item.devices for batch in made._batches for item in batch.items}, {()})

    def test_nothing_is_left(self):
        made = schedule([*items("a"), *items("b", first=1, is_serial=True)], seconds=1.0)
        made.clear()
        self.assertEqual((made.waiting, made.take(1), made.only_serial_left), (0, [], True))


if __name__ == "__main__":
    unittest.main()
