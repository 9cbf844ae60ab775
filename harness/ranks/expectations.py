"""In accept mode, send the texts that a rank produces to the parent, which edits the source once.

expecttest would have every rank rewrite the same file. So this module replaces, in ranks and only
in accept mode, the function of expecttest that compares a text with a literal. expecttest's
TestCase, PyTorch's TestCase and `Expect` all call that function.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import expecttest

from harness.model.expectation import Expectation, is_accepting
from harness.ranks import this_rank

Tell = Callable[[Expectation], None]

_theirs = expecttest.assert_expected_inline


def install() -> None:
    """In accept mode, report the texts of this process's ranks instead of writing them."""
    if is_accepting():
        expecttest.assert_expected_inline = _tell_or_compare


def teller() -> Tell | None:
    """Return what reports a text of the calling rank; None if the caller is not a rank."""
    rank = this_rank.find()
    if rank is None:
        return None
    return rank.report_expectation if rank.example is None else _compare


def _compare(expectation: Expectation) -> None:
    """Compare under @given: the text of one example must not become that of all others."""
    expecttest.assert_eq(
        expectation.expected or "", expectation.actual, msg="Under @given nothing is accepted."
    )


def _tell_or_compare(
    actual: str,
    expect: str,
    skip: int = 0,
    *,
    pos: Any = None,
    expect_filters: dict[str, str] | None = None,
    **kwargs: Any,
) -> None:
    """Stand in for expecttest's `assert_expected_inline`."""
    tell = teller() if is_accepting() else None
    if tell is None:
        _theirs(actual, expect, skip + 1, pos=pos, expect_filters=expect_filters, **kwargs)
        return
    if expect_filters is not None:
        actual = expecttest.replace_many(expect_filters, actual)
    frame = sys._getframe(1 + skip)
    code = frame.f_code
    file, line = (code.co_filename, frame.f_lineno) if pos is None else (pos.filename, pos.lineno)
    function = code.co_name if file == code.co_filename else ""
    tell(Expectation(file, line, function, expect, actual))
