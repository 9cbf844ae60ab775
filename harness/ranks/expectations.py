"""In accept mode, send the texts that a rank produces to the parent, which edits the source once.

With expecttest alone, every rank would rewrite the same file at the same time. So in accept mode,
ranks replace the function of expecttest that compares a text with a literal. expecttest's TestCase,
PyTorch's TestCase and `Expect` all call that function (expecttest 0.3).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import expecttest

from harness.model.expectation import Expectation, is_accepting
from harness.ranks import this_rank

Reporter = Callable[[Expectation], None]

_original = expecttest.assert_expected_inline


def install() -> None:
    """Replace expecttest's function in this process, which has ranks; only in accept mode."""
    if is_accepting():
        expecttest.assert_expected_inline = _report_or_compare


def text_reporter() -> Reporter | None:
    """Return the function that reports a text of the calling rank; None outside ranks."""
    rank = this_rank.find()
    if rank is None:
        return None
    return rank.report_expectation if rank.example is None else _compare


def _compare(expectation: Expectation) -> None:
    """Compare as outside accept mode: under @given, each example may produce another text."""
    expecttest.assert_eq(
        expectation.expected or "",
        expectation.actual,
        msg="Accept mode does not update texts under @given.",
    )


def _report_or_compare(
    actual: str,
    expect: str,
    skip: int = 0,
    *,
    pos: Any = None,
    expect_filters: dict[str, str] | None = None,
    **kwargs: Any,
) -> None:
    """Replace expecttest's `assert_expected_inline`; same parameters."""
    report = text_reporter() if is_accepting() else None
    if report is None:
        _original(actual, expect, skip + 1, pos=pos, expect_filters=expect_filters, **kwargs)
        return
    if expect_filters is not None:
        actual = expecttest.replace_many(expect_filters, actual)
    frame = sys._getframe(1 + skip)
    code = frame.f_code
    file, line = (code.co_filename, frame.f_lineno) if pos is None else (pos.filename, pos.lineno)
    function = code.co_name if file == code.co_filename else ""
    report(Expectation(file, line, function, expect, actual))
