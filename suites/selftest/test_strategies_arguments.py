"""Strategies: arguments that they refuse, and a machine without Hypothesis."""

from __future__ import annotations

import sys

import torch
from hypothesis import strategies as st

from harness import TestCase, strategies
from harness.model.errors import WorldSizeError
from suites.selftest.draws import all_drawn
from suites.selftest.support import CommandTestCase

BAD = [
    (
        lambda: strategies.tensors("float32"),
        TypeError,
        "dtype is 'float32': it must be a torch.dtype",
    ),
    (lambda: strategies.tensors(torch.quint8), ValueError, "dtype is torch.quint8: tensors can be"),
    (
        lambda: strategies.tensors(shape=-1),
        ValueError,
        r"a side of shape \(-1,\) is -1: .* at least 0",
    ),
    (lambda: strategies.tensors(shape="ab"), TypeError, "shape is 'ab': it must be a tuple"),
    (lambda: strategies.tensors(shape=(1, 2.5)), TypeError, "is 2.5: it must be an integer"),
    (
        lambda: strategies.tensors(elements=[1]),
        TypeError,
        r"elements is \[1\]: it must be a strategy",
    ),
    (
        lambda: strategies.tensors(elements=st.floats(), allow_nan=True),
        ValueError,
        "that strategy has to draw them",
    ),
    (
        lambda: strategies.tensors(contiguous=1),
        TypeError,
        "contiguous is 1: it must be True or False",
    ),
    (
        lambda: strategies.tensors(torch.int8, requires_grad=True),
        ValueError,
        "tensors of torch.int8 cannot require grad",
    ),
    (
        lambda: strategies.per_rank_tensors(0),
        WorldSizeError,
        r"per_rank_tensors\(\) has world_size 0",
    ),
    (
        lambda: strategies.per_rank(3, 2),
        TypeError,
        r"per_rank\(\) was given 3: it needs a strategy",
    ),
    (lambda: strategies.shapes(max_dims=-1), ValueError, "max_dims is -1: it must be at least 0"),
    (
        lambda: strategies.shapes(min_side=5),
        ValueError,
        "max_side is 4, below min_side, which is 5",
    ),
    (
        lambda: strategies.shapes(min_dims=3, min_side=3, max_elements=9),
        ValueError,
        "max_elements is 9, but 3 sides of 3 have 27 elements",
    ),
    (
        lambda: strategies.dtypes("float"),
        ValueError,
        "'float' is not a kind of dtype: use floating",
    ),
    (lambda: strategies.reduce_ops(torch.qint8), ValueError, "dtype is torch.qint8"),
    (lambda: strategies.group_sizes(2, min_size=3), ValueError, "max_size is 2, below min_size"),
    (lambda: strategies.group_sizes(0), WorldSizeError, r"group_sizes\(\) has world_size 0"),
    (lambda: strategies.roots(()), ValueError, "it needs one or more, each once"),
    (lambda: strategies.roots((1, 1)), ValueError, r"given the ranks \(1, 1\)"),
    (lambda: strategies.groups(3, max_size=4), ValueError, "max_size is 4, but there are 3 ranks"),
    (lambda: strategies.partitions(2, min_groups=3, max_groups=3), ValueError, "there are 2 ranks"),
    (
        lambda: strategies.split_sizes(2, 3, min_size=1),
        ValueError,
        "total is 2, too few for 3 parts",
    ),
    (lambda: strategies.split_sizes(2, 0), ValueError, "parts is 0: it must be at least 1"),
    (lambda: strategies.split_tables(2, max_size=-1), ValueError, "max_size is -1"),
]


class TestRefusals(TestCase):
    def test_bad_arguments_at_once(self):
        for call, error, message in BAD:
            with self.subTest(message), self.assertRaisesRegex(error, message):
                call()

    def test_what_only_a_draw_can_show(self):
        for strategy, message in [
            (strategies.tensors(st.just(torch.int8), requires_grad=True), "cannot require grad"),
            (strategies.tensors(st.just(3)), "a dtype that was drawn is 3"),
            (
                strategies.tensors(torch.int8, 2, elements=st.just(1e9)),
                "elements drew .* torch.int8",
            ),
        ]:
            with self.assertRaisesRegex((TypeError, ValueError), message):
                all_drawn(strategy, 1)

    def test_the_strategy_is_named_by_what_it_was_given(self):
        text = repr(strategies.tensors(torch.int8, 3))
        self.assertEqual(text, "_tensors(dtype=just(torch.int8), shape=just((3,)))")


class TestWithoutHypothesis(CommandTestCase):
    def test_one_clear_sentence(self):
        """As on a machine without it: nothing but the strategies needs it."""
        self.write(
            "without.py",
            """
            import sys

            class Missing:
                def find_spec(self, name, path=None, target=None):
                    if name.partition(".")[0] == "hypothesis":
                        raise ModuleNotFoundError(f"No module named {name!r}", name="hypothesis")

            sys.meta_path.insert(0, Missing())
            from harness import MultiProcessTestCase, TestCase
            import harness.common_distributed
            try:
                import harness.strategies
            except ImportError as error:
                print(type(error).__name__, error)
            """,
        )
        done = self.run_command(sys.executable, "-W", "error", "without.py")
        self.assertEqual(
            (done.out, done.err),
            (
                "HypothesisMissingError harness.strategies needs hypothesis, which is not "
                "installed: run `pip install 'hypothesis>=6.140'`\n",
                "",
            ),
        )

    def test_importing_the_harness_does_not_import_it(self):
        self.write(
            "light.py",
            """
            import sys
            import harness
            from harness import MultiProcessTestCase
            print("hypothesis" in sys.modules)
            """,
        )
        self.assertEqual(self.run_command(sys.executable, "light.py").out, "False\n")
