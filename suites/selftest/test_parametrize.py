"""One method, many tests: names, arguments, decorators, and PyTorch's protocol."""

from __future__ import annotations

import unittest
from unittest import mock

import torch

from harness import (
    decorateIf,
    devices,
    instantiate_parametrized_tests,
    parametrize,
    reparametrize,
    subtest,
    world_sizes,
)
from harness.cases.decorators import parametrize as ours
from suites.selftest.support import run_case


def instances(*decorators, **members):
    """A class whose test, so decorated, records its arguments; instantiated."""

    def test(self, **arguments):
        self.calls.append(arguments)

    for decorator in reversed(decorators):
        test = decorator(test)
    cls = type("Generic", (unittest.TestCase,), {"test": test, "calls": [], **members})
    return instantiate_parametrized_tests(cls)


def names(cls):
    return unittest.defaultTestLoader.getTestCaseNames(cls)


class TestNames(unittest.TestCase):
    def test_spelt_as_pytorch_spells_them(self):
        spelt = {
            "test_x_1": parametrize("x", [1]),
            "test_x_1_5": parametrize("x", [1.5]),
            "test_x_foo": parametrize("x", ["foo"]),
            "test_x_True": parametrize("x", [True]),
            "test_float32": parametrize("x", [torch.float32]),
            "test_cuda:1": parametrize("x", [torch.device("cuda:1")]),
            "test_x0": parametrize("x", [object()]),
            "test_x_1_y_2": parametrize("x, y", [(1, 2)]),
            "test_1of2": parametrize("x,y", [(1, 2)], name_fn=lambda x, y: f"{x}of{y}"),
            "test_named": parametrize("x", [subtest(1, name="named")]),
            "test": parametrize("", []),
        }
        for name, decorator in spelt.items():
            self.assertEqual(names(instances(decorator)), [name])

    def test_same_names_and_arguments_as_pytorchs_own(self):
        from torch.testing._internal import common_utils as theirs

        def suite(lib):
            class Generic(unittest.TestCase):
                calls: list = []

                @lib.parametrize("dtype", [torch.float32, torch.int8])
                @lib.parametrize("a,b", [(1, 2.5), lib.subtest(("x", None), name="odd")])
                def test_product(self, **arguments):
                    self.calls.append(arguments)

                @lib.reparametrize(
                    lib.parametrize("n", range(4)),
                    lambda name, args: (
                        [(f"{name}_half", {"h": args["n"] / 2})] if args["n"] % 2 else None
                    ),
                )
                def test_halves(self, **arguments):
                    self.calls.append(arguments)

                @lib.decorateIf(unittest.skip("three"), lambda args: args["n"] == 3)
                @lib.parametrize("n", range(2, 5))
                def test_skips(self, **arguments):
                    self.calls.append(arguments)

                @lib.parametrize("n", [1, lib.subtest(2, decorators=[unittest.expectedFailure])])
                def test_decorated(self, n):
                    self.assertEqual(n, 1)

            return lib.instantiate_parametrized_tests(Generic)

        mine, torchs = suite(ours), suite(theirs)
        self.assertEqual(names(mine), names(torchs))
        for name in names(mine):
            self.assertEqual(run_case(mine, name).status, run_case(torchs, name).status, name)
        self.assertEqual(mine.calls, torchs.calls)

    def test_id_and_method_name_agree(self):
        cls = instances(parametrize("x", [1]))
        self.assertTrue(cls("test_x_1").id().endswith("Generic.test_x_1"))
        self.assertEqual(cls.test_x_1.__name__, "test_x_1")


class TestArguments(unittest.TestCase):
    def test_product_of_stacked_decorators(self):
        cls = instances(parametrize("x", [1, 2]), parametrize("y", "ab"))
        self.assertEqual(
            names(cls), ["test_x_1_y_a", "test_x_1_y_b", "test_x_2_y_a", "test_x_2_y_b"]
        )
        run_case(cls, "test_x_2_y_a")
        self.assertEqual(cls.calls, [{"x": 2, "y": "a"}])

    def test_inherited_tests_can_be_instantiated_twice(self):
        class Base(unittest.TestCase):
            @parametrize("x", [1, 2])
            def test(self, x):
                pass

        for name in ("First", "Second"):
            cls = instantiate_parametrized_tests(type(name, (Base,), {}))
            self.assertEqual(names(cls), ["test_x_1", "test_x_2"])

    def test_decorator_of_one_instance_leaves_the_others_alone(self):
        cls = instances(parametrize("x", [1, subtest(2, decorators=[unittest.skip("no")])]))
        self.assertEqual(run_case(cls, "test_x_1").status, "passed")
        self.assertEqual(run_case(cls, "test_x_2").status, "skipped")

    def test_torchs_device_types(self):
        """PyTorch's own instantiation for devices understands our decorators."""
        from torch.testing._internal.common_device_type import instantiate_device_type_tests
        from torch.testing._internal.common_utils import TestCase

        seen = []

        class TestGeneric(TestCase):
            @parametrize("x", [1, 2])
            def test_it(self, device, x):
                seen.append((device, x))

        scope = {"TestGeneric": TestGeneric}
        instantiate_device_type_tests(TestGeneric, scope, only_for="cpu")
        cls = scope["TestGenericCPU"]
        self.assertEqual(names(cls), ["test_it_x_1_cpu", "test_it_x_2_cpu"])
        cls.setUpClass()
        run_case(cls, "test_it_x_2_cpu")
        self.assertEqual(seen, [("cpu", 2)])


class TestBadInput(unittest.TestCase):
    def test_no_values(self):
        used = iter([])
        with self.assertRaisesRegex(ValueError, "has no values"):
            instances(parametrize("x", used))
        with self.assertRaisesRegex(ValueError, "at least one world size"):
            world_sizes()
        with self.assertRaisesRegex(ValueError, "at least one device type"):
            devices()

    def test_wrong_number_of_values(self):
        with self.assertRaisesRegex(RuntimeError, r"2 parameters \(x, y\) but 3 values"):
            instances(parametrize("x,y", [(1, 2, 3)]))

    def test_one_parameter_given_twice(self):
        with self.assertRaisesRegex(RuntimeError, "x is given by two decorators"):
            instances(parametrize("x", [1]), parametrize("x", [2]))

    def test_one_name_for_two_tests(self):
        with self.assertRaisesRegex(AssertionError, "two of its tests are called test_x_1_5"):
            instances(parametrize("x", [1.5, "1_5"]))


class TestVariants(unittest.TestCase):
    def test_devices(self):
        cls = instances(devices("cpu", "cuda"))
        self.assertEqual(names(cls), ["test_cpu", "test_cuda"])
        self.assertEqual(run_case(cls, "test_cpu").status, "passed")
        self.assertEqual(cls.calls, [{"device": torch.device("cpu")}])
        with mock.patch("harness.cases.decorators.variants.device_count", return_value=0):
            result = run_case(cls, "test_cuda")
        self.assertEqual(
            (result.status, result.text), ("skipped", "needs a CUDA device, this machine has none")
        )

    def test_ranks_take_the_devices_in_turn(self):
        for rank, wanted in ((0, 0), (1, 1), (2, 0)):
            cls = instances(devices("cuda"), rank=rank)
            with mock.patch("harness.cases.decorators.variants.device_count", return_value=2):
                run_case(cls, "test_cuda")
            self.assertEqual(cls.calls, [{"device": torch.device("cuda", wanted)}])

    def test_device_type_that_torch_does_not_know(self):
        cls = instances(devices("abacus"))
        self.assertEqual(run_case(cls, "test_abacus").status, "skipped")

    def test_decorators_combine(self):
        cls = instances(
            world_sizes(1, 2),
            decorateIf(unittest.skip("no"), lambda args: args["x"] == 2),
            parametrize("x", [1, 2]),
        )
        self.assertEqual(
            names(cls),
            [f"test_world_size_{n}_x_{x}" for n in (1, 2) for x in (1, 2)],
        )
        self.assertEqual(cls.test_world_size_2_x_1._required_world_size, 2)
        self.assertEqual(run_case(cls, "test_world_size_1_x_2").status, "skipped")

    def test_reparametrize_may_drop_all_instances_of_one_value(self):
        cls = instances(
            reparametrize(
                parametrize("x", range(3)), lambda name, args: None if args["x"] else [(name, args)]
            )
        )
        self.assertEqual(names(cls), ["test_x_0"])
