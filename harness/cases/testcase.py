"""`TestCase`: unittest's and expecttest's, with a fixed seed and comparison of tensors."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any
from unittest.util import safe_repr

import expecttest

from harness.cases.assertions.comparison import Tolerance, assert_equal, message_with
from harness.cases.assertions.expecting import expect_file
from harness.cases.properties import profiles
from harness.cases.returning import ReturnCheckMixin
from harness.cases.seeding import set_rng_seed

__unittest = True  # unittest leaves the frames of such modules out of its tracebacks


class TestCase(ReturnCheckMixin, expecttest.TestCase):
    """Base of all test classes, with or without ranks.

    Every test starts from the same seed (see `set_rng_seed`). `assertEqual` compares tensors too.

    Attributes:
        precision: minimum absolute tolerance of every comparison in the class.
        rel_tol: minimum relative tolerance of every comparison in the class.
    """

    maxDiff = None
    _diffThreshold = sys.maxsize  # show a diff for strings of any length

    precision: float = 0.0
    rel_tol: float = 0.0

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # Where the entry point that loads the profiles did not run, this is the last chance before
        # the class's property tests run.
        if "hypothesis" in sys.modules:
            profiles.load()

    def __init__(self, method_name: str = "runTest", methodName: str = "runTest") -> None:
        # unittest and its runners pass methodName; PyTorch's classes pass method_name.
        super().__init__(method_name if methodName == "runTest" else methodName)

    def setUp(self) -> None:
        super().setUp()
        set_rng_seed()

    def assertEqual(
        self,
        x: Any,
        y: Any,
        msg: str | Callable[[str], str] | None = None,
        *,
        atol: float | None = None,
        rtol: float | None = None,
        equal_nan: bool = True,
        exact_dtype: bool = True,
        exact_device: bool = False,
        exact_layout: bool = False,
        exact_stride: bool = False,
        exact_is_coalesced: bool = False,
    ) -> None:
        """Fail unless the two values are equal, within tolerance where they are numbers.

        Args:
            x, y: tensors of the same shape, numbers, bools, strings, None, NumPy arrays, other
                objects, or sequences and mappings of these. A tensor may be compared with a
                sequence of numbers, and a tensor of one element with a number.
            msg: text to add to the message, or a function that takes the message and returns one.
            atol, rtol: tolerances, both or neither; by default those that
                `torch.testing.assert_close` uses for the dtypes.
            equal_nan: whether two NaNs are equal.
            exact_dtype, exact_device, exact_layout, exact_stride: whether two tensors must agree
                in these too.
            exact_is_coalesced: whether sparse tensors must both be coalesced or both not.

        Raises:
            AssertionError: the message says how, and where inside x and y, they differ.
            ValueError: if only one of atol and rtol is given.
        """
        __tracebackhide__ = True
        how = Tolerance(
            atol=atol,
            rtol=rtol,
            min_atol=self.precision,
            min_rtol=self.rel_tol,
            equal_nan=equal_nan,
            exact_dtype=exact_dtype,
            exact_device=exact_device,
            exact_layout=exact_layout,
            exact_stride=exact_stride,
            exact_is_coalesced=exact_is_coalesced,
        )
        try:
            assert_equal(x, y, how)
        except AssertionError as error:
            raise self.failureException(message_with(msg, str(error), self.longMessage)) from None

    def assertExpected(self, s: str, subname: str | None = None) -> None:
        """Fail unless the text equals the contents of the test's file in the folder `expect`.

        The file is `expect/Class.method.expect` beside the test's module. With EXPECTTEST_ACCEPT=1
        (`--accept`) the test writes the text to it instead.

        Args:
            s: the text.
            subname: distinguishes several texts of one test.
        """
        expect_file(self, s, subname)

    def assertNotEqual(  # type: ignore[override]
        self, x: Any, y: Any, msg: str | None = None, **how: Any
    ) -> None:
        """Fail if `assertEqual(x, y)` with the same arguments would pass."""
        __tracebackhide__ = True
        try:
            self.assertEqual(x, y, **how)
        except self.failureException:
            return
        generated = f"{safe_repr(x)} equals {safe_repr(y)}"
        raise self.failureException(message_with(msg, generated, self.longMessage))
