"""The mixin that reports an error if the body of a test, setUp or tearDown did not run.

A test that is a coroutine function or a generator function returns at once, and would pass.
"""

from __future__ import annotations

import contextlib
import sys
import unittest
from collections.abc import Callable, Iterator
from typing import Any

from harness.cases.agreement import MixinBase
from harness.cases.decorators.parametrize import is_not_instantiated
from harness.cases.places import place_of_test, raise_at
from harness.cases.raising import disable_expected_failure
from harness.diagnosis.sources import is_torch
from harness.model.errors import BodyNotRunError
from harness.model.returned import check_parametrized, check_wrapped, checked

__unittest = True  # unittest leaves the frames of such modules out of its tracebacks


def is_async_class(cls: type) -> bool:
    """Whether the class inherits from unittest's IsolatedAsyncioTestCase, which runs coroutines."""
    # `unittest.IsolatedAsyncioTestCase` would import asyncio. If nobody has imported the module, no
    # class can inherit from it.
    module = sys.modules.get("unittest.async_case")
    return module is not None and issubclass(cls, module.IsolatedAsyncioTestCase)


class ReturnCheckMixin(MixinBase):
    """Check what a test method, setUp and tearDown return.

    unittest calls them through the three private methods below (CPython 3.8 and later), and
    IsolatedAsyncioTestCase overrides these. unittest itself only warns about a return value that is
    not None (3.11 and later).
    """

    def _callSetUp(self) -> None:
        if is_async_class(type(self)):
            super()._callSetUp()  # type: ignore[misc]
            return
        with unrun_body_is_error(self):
            checked(self.setUp)()

    def _callTearDown(self) -> None:
        if is_async_class(type(self)):
            super()._callTearDown()  # type: ignore[misc]
            return
        with unrun_body_is_error(self):
            checked(self.tearDown)()

    def _callTestMethod(self, method: Callable[[], Any]) -> None:
        with unrun_body_is_error(self):
            try:
                check_parametrized(method)
                _check_instantiated(self, method)
            except BodyNotRunError as error:
                raise_at(place_of_test(self), error.with_traceback(None))
        if is_async_class(type(self)):
            super()._callTestMethod(method)  # type: ignore[misc]
            return
        with unrun_body_is_error(self):
            try:
                # torch's parametrize drops what a test returns (torch 2.13).
                check_wrapped(method, drops=is_torch)
                super()._callTestMethod(checked(method))  # type: ignore[misc]
            except BodyNotRunError as error:
                raise_at(place_of_test(self), error.with_traceback(None))


def _check_instantiated(case: unittest.TestCase, method: Callable[[], Any]) -> None:
    """Raise BodyNotRunError for a parametrized method of a class that is not decorated."""
    if is_not_instantiated(method):
        name = f"{type(case).__qualname__}.{case._testMethodName}"
        raise BodyNotRunError(
            f"{name}() is parametrized, but no tests were made of it: decorate the class with "
            "@instantiate_parametrized_tests"
        )


@contextlib.contextmanager
def unrun_body_is_error(case: unittest.TestCase) -> Iterator[None]:
    """Report a body that did not run as an error, even if the test is an expected failure."""
    try:
        yield
    except BodyNotRunError:
        disable_expected_failure(case)
        raise
