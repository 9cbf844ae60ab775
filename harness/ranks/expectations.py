"""In a rank that accepts what it produces: the parent is told, which then edits the source once.

expecttest would have every rank rewrite the same file. Its function that compares a text with a
literal is replaced in ranks, and only while texts are accepted: its TestCase, PyTorch's and its
`Expect` all come through there.
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
    """From here on, have what ranks of this process produce told instead of written."""
    if is_accepting():
        expecttest.assert_expected_inline = _tell_or_compare


def teller() -> Tell | None:
    """Where the calling rank tells what it has produced; None if the caller is no rank."""
    rank = this_rank.find()
    if rank is None:
        return None
    return rank.report_expectation if rank.example is None else _compare


def _compare(expectation: Expectation) -> None:
    """One example of many says nothing about what to expect of the next."""
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
