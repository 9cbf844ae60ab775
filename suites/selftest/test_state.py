"""`RankState`: which differences count against a test, and in which words, with made-up probes."""

from __future__ import annotations

import types

from harness.ranks.child import state
from harness.ranks.child.state import RankState
from suites.selftest.fake_ranks import FakeTimeTestCase


class StateTestCase(FakeTimeTestCase):
    """Has one probe of each kind in place of the real ones, and modules of its own.

    Attributes:
        values: by the name of a probe, the part of the state that it returns.
        taken: how often each was asked for.
        pauses: what happens in the next pauses of the comparison.
        slept, collections: how often it has paused, and collected garbage.
    """

    PROBES = {
        "plain": {},
        "set by us": {"is_set_by_us": True},
        "never there": {"is_none_before": True},
        "settling": {"settles": True},
        "imports": {"may_be_imports": True},
        "growing": {"grows_by_imports": True},
    }

    def setUp(self):
        super().setUp()
        self.values = {name: {} for name in self.PROBES}
        self.taken = dict.fromkeys(self.PROBES, 0)
        self.pauses = []
        self.slept = 0
        probes = {name: self.probe(name, **more) for name, more in self.PROBES.items()}
        self.modules = {"json": types.ModuleType("json"), "re": types.ModuleType("re")}
        self.probes = tuple(probes.values())
        self.patch(state, "_ENVIRONMENT", probes["set by us"])
        self.patch(state, "sys", types.SimpleNamespace(modules=self.modules))
        self.collections = 0
        self.patch(state, "gc", types.SimpleNamespace(collect=self.collect))
        self.patch(state, "time", types.SimpleNamespace(sleep=self.sleep))

    def probe(self, name, **more):
        def take():
            self.taken[name] += 1
            return dict(self.values[name])

        return state.Probe(name, take, **more)

    def collect(self):
        self.collections += 1

    def sleep(self, seconds):
        self.clock.time += seconds
        self.slept += 1
        if self.pauses:
            self.pauses.pop(0)()

    def noted(self, known=None):
        """The state now."""
        return RankState(self.probes, known)

    def told_after(self, change):
        """What is told of a change; nothing if the rank may run the next test."""
        before = self.noted()
        change()
        left = before.differences()
        self.assertTrue(left or not left.texts())
        return left.texts() if left else None

    def put(self, name, **values):
        return lambda: self.values[name].update(values)

    def load(self, name="wave"):
        self.modules[name] = types.ModuleType(name)


class TestDifferences(StateTestCase):
    def test_none(self):
        self.values["plain"] = {"seed": 1}
        self.assertIsNone(self.told_after(lambda: None))

    def test_the_words(self):
        self.values["plain"] = {"changed": 1, "gone": 2, "same": 3}

        def change():
            self.values["plain"] = {"changed": None, "same": 3, "new": "x", "flag": True}

        self.assertEqual(
            self.told_after(change),
            [
                "plain changed is None, was 1",
                "plain gone gone",
                "plain new: x left behind",
                "plain flag left behind",
            ],
        )

    def test_what_was_there_before_counts_where_nothing_may_be(self):
        self.values["never there"] = {"group": "gloo"}
        self.assertEqual(self.told_after(lambda: None), ["never there group: gloo left behind"])

    def test_what_has_gone_by_itself_does_not(self):
        self.values["never there"] = {"group": "gloo"}
        self.assertIsNone(self.told_after(self.values["never there"].clear))

    def test_values_are_shortened(self):
        change = self.put("plain", long="x" * 100, raw=b"\xff/tmp", thing=StateTestCase.probe)
        told = self.told_after(change)
        self.assertEqual(told[0], f"plain long: {'x' * 80}… left behind")
        self.assertEqual(told[1], "plain raw: \udcff/tmp left behind")
        self.assertEqual(told[2], "plain thing: <function StateTestCase.probe> left behind")

    def test_of_many_the_first_few_are_told(self):
        for count, more in ((6, []), (7, ["plain: 2 more"])):
            with self.subTest(count):
                self.values["plain"] = {}
                told = self.told_after(self.put("plain", **{f"v{n}": n for n in range(count)}))
                shown = 5 if more else count
                wanted = [f"plain v{n}: {n} left behind" for n in range(shown)]
                self.assertEqual(told, wanted + more)

    def test_each_kind_is_told_of(self):
        def change():
            for name in ("plain", "settling"):
                self.values[name].update({f"v{n}": n for n in range(9)})

        told = self.told_after(change)
        self.assertEqual(
            [text for text in told if "more" in text],
            [
                "plain: 4 more",
                "settling: 4 more",
            ],
        )


class TestImports(StateTestCase):
    def imported_and(self, name):
        def change():
            self.load()
            self.values[name]["left"] = 1

        return self.told_after(change)

    def test_a_new_module_is_no_difference(self):
        self.assertIsNone(self.told_after(self.load))

    def test_what_an_import_may_change_is_not_told(self):
        """The world is replaced, but the test is not blamed."""
        self.assertEqual(self.imported_and("imports"), [])

    def test_it_is_told_if_nothing_was_imported(self):
        told = self.told_after(self.put("imports", left=1))
        self.assertEqual(told, ["imports left: 1 left behind"])

    def test_what_grows_by_imports_is_no_difference(self):
        self.assertIsNone(self.imported_and("growing"))

    def test_it_is_one_if_nothing_was_imported(self):
        told = self.told_after(self.put("growing", left=1))
        self.assertEqual(told, ["growing left: 1 left behind"])

    def test_others_are_told_all_the_same(self):
        self.assertEqual(self.imported_and("plain"), ["plain left: 1 left behind"])

    def test_a_module_that_is_gone(self):
        self.assertEqual(self.told_after(lambda: self.modules.pop("json")), ["module json gone"])

    def test_another_in_its_place(self):
        (told,) = self.told_after(lambda: self.load("json"))
        self.assertEqual(told, "module json is <module 'json'>, was <module 'json'>")

    def test_one_that_was_removed_and_imported_again(self):
        def change():
            del self.modules["json"]
            self.load("json")

        (told,) = self.told_after(change)
        self.assertIn("module json is", told)

    def test_the_same_module_removed_and_put_back(self):
        def change():
            self.modules["json"] = self.modules.pop("json")

        self.assertIsNone(self.told_after(change))


class TestSettling(StateTestCase):
    def test_what_goes_in_a_moment_is_no_difference(self):
        self.pauses = [lambda: None, lambda: None, self.values["settling"].clear]
        self.assertIsNone(self.told_after(self.put("settling", thread=True)))
        self.assertEqual((self.slept, self.collections), (3, 3))

    def test_what_stays_is_one(self):
        told = self.told_after(self.put("settling", thread=True))
        self.assertEqual(told, ["settling thread left behind"])
        self.assertGreaterEqual(self.clock.elapsed_s, state._SETTLING_S)
        self.assertLess(self.clock.elapsed_s, state._SETTLING_S + 2 * state._PAUSE_S)

    def test_nothing_else_is_waited_for(self):
        self.pauses = [self.values["plain"].clear]
        self.assertIsNotNone(self.told_after(self.put("plain", seed=2)))
        self.assertEqual(self.slept, 0)

    def test_what_does_not_settle_is_told_beside_what_does(self):
        self.pauses = [self.values["settling"].clear]

        def change():
            self.put("settling", thread=True)()
            self.put("plain", seed=2)()

        self.assertEqual(self.told_after(change), ["plain seed: 2 left behind"])


class TestKnownStates(StateTestCase):
    def test_only_what_the_harness_sets_is_taken_again(self):
        first = self.noted()
        self.values["set by us"]["cwd"] = "/"
        second = self.noted(first)
        self.assertEqual(self.taken, {**dict.fromkeys(self.PROBES, 1), "set by us": 2})
        self.assertFalse(second.differences())

    def test_the_test_before_is_not_forgiven(self):
        first = self.noted()
        self.values["plain"]["left"] = 1
        self.assertEqual(self.noted(first).differences().texts(), ["plain left: 1 left behind"])

    def test_all_is_taken_again_after_an_import(self):
        first = self.noted()
        self.assertTrue(first.is_of_now)
        self.load()
        self.assertFalse(first.is_of_now)
        second = self.noted(first)
        self.assertEqual(self.taken, dict.fromkeys(self.PROBES, 2))
        self.assertTrue(second.is_of_now)

    def test_modules_are_those_of_the_first(self):
        first = self.noted()
        self.load("json")
        second = self.noted(first)
        self.assertIn("module json is", second.differences().texts()[0])

    def test_the_environment_as_the_class_leaves_it(self):
        before = self.noted()
        self.values["set by us"]["HOME"] = "/class"
        before.take_environment()
        self.assertFalse(before.differences())
        self.values["set by us"]["HOME"] = "/test"
        before.take_environment()  # only the first call counts
        told = before.differences().texts()
        self.assertEqual(told, ["set by us HOME is /test, was /class"])
