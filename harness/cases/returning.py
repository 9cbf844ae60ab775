"""The mixin that makes an error of a test, or its set-up, whose body did not run."""

from __future__ import annotations

import contextlib
import sys
import unittest
from collections.abc import Callable, Iterator
from typing import Any

from harness.cases.agreement import MixinBase
from harness.cases.places import place_of_test, raise_at
from harness.cases.raising import expect_no_failure
from harness.diagnosis.sources import is_torch
from harness.model.errors import BodyNotRunError
from harness.model.returned import check_parametrized, check_wrapped, checked

__unittest = True  # unittest leaves the frames of such modules out of its tracebacks


def is_async_class(cls: type) -> bool:
    """Whether unittest's IsolatedAsyncioTestCase is among the bases, which runs coroutines."""
    # Asking unittest for the class would import asyncio.
    module = sys.modules.get("unittest.async_case")
    return module is not None and issubclass(cls, module.IsolatedAsyncioTestCase)


class ReturnCheckMixin(MixinBase):
    """Check what a test method, setUp and tearDown return.

    unittest calls them by these three methods (CPython 3.8 and later), which
    IsolatedAsyncioTestCase overrides. Of a value that is not None, unittest itself warns (3.11 and
    later).
    """

    def _callSetUp(self) -> None:
        if is_async_class(type(self)):
            super()._callSetUp()  # type: ignore[misc]
            return
        with as_no_expected_failure(self):
            checked(self.setUp)()

    def _callTearDown(self) -> None:
        if is_async_class(type(self)):
            super()._callTearDown()  # type: ignore[misc]
            return
        with as_no_expected_failure(self):
            checked(self.tearDown)()

    def _callTestMethod(self, method: Callable[[], Any]) -> None:
        with as_no_expected_failure(self):
            try:
                check_parametrized(method)
            except BodyNotRunError as error:
                raise_at(place_of_test(self), error.with_traceback(None))
        if is_async_class(type(self)):
            super()._callTestMethod(method)  # type: ignore[misc]
            return
        with as_no_expected_failure(self):
            try:
                # torch's parametrize drops what a test returns (torch 2.13).
                check_wrapped(method, drops=is_torch)
                super()._callTestMethod(checked(method))  # type: ignore[misc]
            except BodyNotRunError as error:
                raise_at(place_of_test(self), error.with_traceback(None))


@contextlib.contextmanager
def as_no_expected_failure(case: unittest.TestCase) -> Iterator[None]:
    """Have a body that did not run be an error, also of a test that is expected to fail."""
    try:
        yield
    except BodyNotRunError:
        expect_no_failure(case)
        raise
