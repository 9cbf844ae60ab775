"""`assertEqual` and `assertNotEqual` over everything that tests compare."""

from __future__ import annotations

import enum
import math
from collections import OrderedDict

import numpy as np
import torch

from harness import TestCase


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Level(enum.IntEnum):
    LOW = 1


NAN = float("nan")
INF = float("inf")

EQUAL = [
    (1, 1),
    (1, 1.0),
    (1.0, 1.0 + 1e-6),
    (1 + 1j, 1 + 1j),
    (10**400, 10**400),
    (INF, INF),
    (NAN, NAN),
    (True, 1),
    (True, torch.tensor(True)),
    (0, False),
    (Level.LOW, 1),
    (Colour.RED, Colour.RED),
    (None, None),
    ("text", "text"),
    (b"bytes", b"bytes"),
    ({1, 2}, {2, 1}),
    (torch.float32, torch.float32),
    (int, int),
    ([1, 2.0], (1.0, 2)),
    (range(3), [0, 1, 2]),
    ({"a": [torch.ones(2)]}, OrderedDict(a=[torch.ones(2)])),
    (torch.ones(2), torch.ones(2)),
    (torch.ones(2), torch.ones(2) + 1e-6),
    (torch.ones(2), [1.0, 1.0]),
    ([1, 1], torch.ones(2)),
    (torch.tensor(3), 3),
    (3.0, torch.tensor([3.0])),
    (np.ones(2), torch.ones(2, dtype=torch.float64)),
    (torch.ones(2, dtype=torch.float64), np.ones(2)),
    (np.array(["a", "b"]), np.array(["a", "b"])),
    (np.float64(1.5), 1.5),
    (np.int64(3), torch.tensor(3)),
    (np.ones(3)[::-1], np.ones(3)),
    (torch.tensor([NAN, INF]), torch.tensor([NAN, INF])),
    (torch.ones(2, 2).to_sparse(), torch.ones(2, 2).to_sparse()),
    (torch.ones(2, 2).to_sparse(), torch.ones(2, 2)),
    (torch.empty(0), torch.empty(0)),
    (torch.Size([2, 3]), [2, 3]),
    (torch.nn.Parameter(torch.ones(2)), torch.ones(2)),
    (torch.ones(2, 3).t(), torch.ones(3, 2)),
    (torch.ones(2, dtype=torch.bool), torch.ones(2, dtype=torch.bool)),
    (torch.nn.ParameterList([torch.ones(1)]), [torch.ones(1)]),
    (
        torch.nested.nested_tensor([torch.ones(1), torch.ones(2)]),
        torch.nested.nested_tensor([torch.ones(1), torch.ones(2)]),
    ),
]

UNEQUAL = [
    (1, 2),
    (1.0, 1.001),
    (1.0, INF),
    (INF, 1.0),
    (INF, -INF),
    (1.0, NAN),
    (True, False),
    (True, 0),
    (None, 0),
    (None, torch.zeros(1)),
    (0, None),
    ("text", "texts"),
    ("1", 1),
    ("a", ["a"]),
    ({1, 2}, {1}),
    (Colour.RED, Colour.BLUE),
    (Colour.RED, 1),
    (torch.float32, torch.float64),
    ([1, 2], [1, 2, 3]),
    ([1, 2], [1, 3]),
    ({"a": 1}, {"b": 1}),
    ({"a": 1}, {"a": 1, "b": 2}),
    (torch.ones(2), torch.ones(3)),
    (torch.ones(2), torch.ones(2) * 1.001),
    (torch.ones(2), torch.ones(2, dtype=torch.float64)),
    (torch.ones(1), torch.ones(1, 1)),
    (torch.ones(2), [1.0, 2.0]),
    (torch.tensor(3), 4),
    (torch.tensor([INF]), torch.tensor([1.0])),
    (np.ones(2), torch.zeros(2, dtype=torch.float64)),
    (np.ones(2), torch.ones(2)),
    (np.array(["a"]), np.array(["b"])),
    (torch.ones(2, 2).to_sparse(), torch.zeros(2, 2).to_sparse()),
    (object(), object()),
]


class TestEquality(TestCase):
    def test_equal_values(self):
        for x, y in EQUAL:
            with self.subTest(x=x, y=y):
                self.assertEqual(x, y)
                with self.assertRaisesRegex(AssertionError, "equals"):
                    self.assertNotEqual(x, y)

    def test_unequal_values(self):
        for x, y in UNEQUAL:
            with self.subTest(x=x, y=y):
                self.assertNotEqual(x, y)
                with self.assertRaises(AssertionError):
                    self.assertEqual(x, y)

    def test_where_inside_the_values(self):
        with self.assertRaisesRegex(AssertionError, r"at item \['grads'\]\[1\]"):
            self.assertEqual(
                {"grads": [torch.ones(2), torch.ones(2)]},
                {"grads": [torch.ones(2), torch.zeros(2)]},
            )

    def test_says_how_far_apart_tensors_are(self):
        with self.assertRaisesRegex(AssertionError, "Mismatched elements: 1 / 3"):
            self.assertEqual(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 2.0, 4.0]))

    def test_tolerances(self):
        x, y = torch.tensor([100.0]), torch.tensor([101.0])
        self.assertEqual(x, y, atol=1.0, rtol=0)
        self.assertEqual(x, y, atol=0, rtol=0.01)
        self.assertNotEqual(x, y, atol=0.5, rtol=0)
        self.assertEqual(100.0, 101.0, atol=1.0, rtol=0)
        self.assertEqual([100, {"a": 100}], [101, {"a": 101}], atol=1, rtol=0)
        self.assertEqual(torch.tensor([100]), torch.tensor([101]), atol=1, rtol=0)

    def test_one_tolerance_alone_is_refused(self):
        for given in ({"atol": 1.0}, {"rtol": 1.0}):
            with self.assertRaisesRegex(ValueError, "both rtol and atol"):
                self.assertEqual(torch.ones(1), torch.ones(1), **given)

    def test_tolerance_follows_the_dtype(self):
        for dtype, apart in ((torch.float16, 1e-3), (torch.float32, 1e-6), (torch.float64, 1e-8)):
            x = torch.ones(1, dtype=torch.float64)
            self.assertEqual(x.to(dtype), (x + apart).to(dtype))
            self.assertNotEqual(x.to(dtype), (x + 40 * apart).to(dtype))

    def test_class_wide_tolerances_are_a_floor(self):
        class Coarse(TestCase):
            precision = 0.5

        coarse = Coarse()
        coarse.assertEqual(torch.tensor([1.0]), torch.tensor([1.4]))
        coarse.assertEqual(1.0, 1.4)
        coarse.assertEqual(1.0, 1.4, atol=0.1, rtol=0)
        coarse.assertNotEqual(1.0, 1.6)

    def test_exact_dtype(self):
        x, y = torch.ones(2), torch.ones(2, dtype=torch.float64)
        self.assertEqual(x, y, exact_dtype=False)
        with self.assertRaisesRegex(AssertionError, "dtype"):
            self.assertEqual(x, y)

    def test_exact_device(self):
        x, y = torch.ones(2), torch.ones(2, device="meta")
        with self.assertRaisesRegex(AssertionError, "device"):
            self.assertEqual(x, y, exact_device=True)

    def test_exact_layout_and_stride(self):
        dense = torch.ones(2, 3)
        with self.assertRaisesRegex(AssertionError, "layout"):
            self.assertEqual(dense.to_sparse(), dense, exact_layout=True)
        with self.assertRaisesRegex(AssertionError, "stride"):
            self.assertEqual(torch.ones(3, 2).t(), dense, exact_stride=True)
        self.assertEqual(dense, dense.clone(), exact_stride=True, exact_layout=True)

    def test_exact_is_coalesced(self):
        once = torch.ones(2, 2).to_sparse()
        twice = torch.sparse_coo_tensor(once.indices(), once.values(), is_coalesced=False)
        self.assertEqual(once, twice)
        with self.assertRaisesRegex(AssertionError, "coalesced"):
            self.assertEqual(once, twice, exact_is_coalesced=True)

    def test_equal_nan(self):
        self.assertNotEqual(NAN, NAN, equal_nan=False)
        self.assertNotEqual(torch.tensor([NAN]), torch.tensor([NAN]), equal_nan=False)

    def test_number_against_many_elements_is_refused(self):
        for scalar in (1, True):
            with self.assertRaisesRegex(ValueError, "one element, not of 2"):
                self.assertEqual(torch.ones(2), scalar)

    def test_message_is_added_to_the_generated_one(self):
        with self.assertRaisesRegex(AssertionError, "(?s)not equal.*\nof the gradients"):
            self.assertEqual(1, 2, "of the gradients")

    def test_message_alone_without_long_message(self):
        class Short(TestCase):
            longMessage = False

        with self.assertRaisesRegex(AssertionError, "^of the gradients$"):
            Short().assertEqual(1, 2, "of the gradients")

    def test_message_from_a_function(self):
        with self.assertRaisesRegex(AssertionError, "^step 3: Scalars are not equal"):
            self.assertEqual(1, 2, lambda generated: f"step 3: {generated}")

    def test_strings_are_diffed(self):
        with self.assertRaisesRegex(AssertionError, r"(?s)- line 1\n.*\+ line one"):
            self.assertEqual("line 1\nline 2\n", "line one\nline 2\n")

    def test_fast_and_slow_ways_agree(self):
        """Ordinary tensors are judged without assert_close; the answers must be its answers."""
        generator = torch.Generator().manual_seed(0)
        steps = [0.0, 1e-9, 1e-7, 9e-7, 2e-6, 1e-5, 1e-4, 1e-2]
        for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
            for step in steps:
                x = torch.randn(50, generator=generator, dtype=torch.float64)
                a, b = x.to(dtype), (x * (1 + step)).to(dtype)
                self.assertEqual(
                    self.holds(torch.testing.assert_close, a, b), self.holds_here(a, b)
                )

    def test_numbers_agree_with_assert_close(self):
        values = [0.0, 1.0, -1.0, 1 + 1e-6, 1 + 1e-5, 1e-6, 1e30, INF, -INF, NAN]
        for a in values:
            for b in values:
                slow = self.holds(
                    torch.testing.assert_close, a, b, rtol=1.3e-6, atol=1e-5, equal_nan=True
                )
                self.assertEqual(self.holds_here(a, b), slow, f"{a} and {b}")

    def holds_here(self, a, b) -> bool:
        return self.holds(self.assertEqual, a, b)

    @staticmethod
    def holds(assertion, *args, **kwargs) -> bool:
        try:
            assertion(*args, **kwargs)
        except AssertionError:
            return False
        return True


class TestNumbersAgainstTensors(TestCase):
    def test_nothing_is_cut_off(self):
        for numbers, tensor in (
            ([1.5, 2.7], torch.tensor([1, 2])),
            ([3e-9], torch.tensor([0])),
            ([1, 2], torch.tensor([True, True])),
            ([300], torch.tensor([44], dtype=torch.uint8)),
            ([1j], torch.tensor([0.0])),
        ):
            with self.subTest(numbers), self.assertRaises(AssertionError):
                self.assertEqual(numbers, tensor)

    def test_what_fits_is_equal(self):
        for numbers, tensor in (
            ([1.0, 2.0], torch.tensor([1, 2])),
            ([1, 0], torch.tensor([True, False])),
            ([0.1], torch.tensor([0.1], dtype=torch.float16)),
            ([1, 2], torch.tensor([1.0, 2.0], dtype=torch.float64)),
            ([1], torch.tensor([1 + 0j])),
            ([], torch.tensor([])),
        ):
            with self.subTest(numbers):
                self.assertEqual(numbers, tensor)


class TestSeeding(TestCase):
    def draw(self) -> list[float]:
        import random

        return [random.random(), float(np.random.rand()), float(torch.rand(()))]

    def test_every_test_draws_the_same(self):
        drawn = []

        class Draws(TestCase):
            def test_one(case):  # noqa: N805
                drawn.append(self.draw())

            def test_other(case):  # noqa: N805
                drawn.append(self.draw())

        for method in ("test_one", "test_other"):
            Draws(method).debug()
        self.assertEqual(*drawn, atol=0, rtol=0)
        self.assertFalse(any(math.isnan(x) for x in drawn[0]))
