"""Expected texts, in the test's source or in files beside it, and how `--accept` updates them.

Several ranks must not edit one file at once. So ranks only report their texts to the parent, which
edits the source once, after all ranks have passed and produced the same text.
"""

from __future__ import annotations

import ast
import os
import sys
import unittest
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import expecttest

from harness.cases.places import raise_at
from harness.diagnosis.words import grouped, rank_list, shortened
from harness.model.errors import RanksFailedError
from harness.model.expectation import Expectation, is_accepting
from harness.model.outcome import Place
from harness.ranks.expectations import text_reporter

__unittest = True  # unittest leaves the frames of such modules out of its tracebacks

_SHOWN = 2000


def expect_file(case: unittest.TestCase, text: str, subname: str | None) -> None:
    """Compare a text with the test's expected file, or accept the text.

    Args:
        case: the test, in a rank or without ranks.
        text: the text that the test produced.
        subname: distinguishes several texts of one test.

    Raises:
        AssertionError: if they differ, or the file does not exist.
    """
    path = _path_for(case, subname)
    expected = path.read_text(encoding="utf-8") if path.exists() else None
    if is_accepting() or expecttest.ACCEPT:
        found = Expectation(str(path), 0, case._testMethodName, expected, text)
        # In a rank, `text_reporter()` reports the text to the parent; without ranks it is None.
        (text_reporter() or _write)(found)
    elif expected is None:
        raise case.failureException(
            f"there is no {path} to compare with; EXPECTTEST_ACCEPT=1 writes it. "
            f"It would contain:\n\n{shortened(text, _SHOWN)}"
        )
    else:
        case.assertMultiLineEqual(expected, text)


def _path_for(case: unittest.TestCase, subname: str | None) -> Path:
    """Return PyTorch's path: `expect/Class.method-subname.expect` beside the test's module."""
    module = sys.modules[type(case).__module__]
    name = case.id().removeprefix(f"{type(case).__module__}.")
    suffix = f"-{subname}" if subname else ""
    folder = os.path.dirname(os.path.realpath(str(module.__file__)))
    return Path(folder, "expect", f"{name}{suffix}.expect")


def accept(reported: Mapping[int, Sequence[Expectation]]) -> None:
    """Update the expected texts of a test with what its ranks produced; the test has passed.

    Args:
        reported: each rank's expectations, in order.

    Raises:
        RanksFailedError: if a place got more than one text; then nothing is written.
    """
    places: dict[tuple[str, int], list[tuple[int, Expectation]]] = {}
    for rank, expectations in reported.items():
        for expectation in expectations:
            places.setdefault(expectation.place, []).append((rank, expectation))
    for found in places.values():
        _check_that_they_agree(found)
    # All places are checked before the first edit, so a disagreement changes no file.
    for found in places.values():
        expectation = found[0][1]
        if expectation.actual != expectation.expected:
            (_edit if expectation.line else _write)(expectation)


def _check_that_they_agree(found: Sequence[tuple[int, Expectation]]) -> None:
    texts = grouped((rank, expectation.actual) for rank, expectation in found)
    if len(texts) == 1:
        return
    first = found[0][1]
    produced = [f"{rank_list(sorted(set(r)))}:\n{shortened(t, _SHOWN)}" for t, r in texts]
    rule = (
        "a single text is expected here, but the test produced several, so nothing was accepted: "
        "expect one text for each rank (if self.rank == 0: …), or for each call"
    )
    line = max(first.line, 1)
    raise_at(
        Place(first.file, line, first.function or "?", line),
        RanksFailedError("\n\n".join([rule, *produced])),
    )


def _write(expectation: Expectation) -> None:
    if expectation.actual == expectation.expected:
        return
    path = Path(expectation.file)
    print(f"Accepting new output at {path}")
    path.parent.mkdir(exist_ok=True)
    path.write_text(expectation.actual, encoding="utf-8")


def _edit(expectation: Expectation) -> None:
    """Replace the literal in the source.

    expecttest's own edit is not enough: it finds a literal by its line. It adjusts that line for
    earlier edits of this process, but a rank may have imported the file before or after any of
    them. Then it would replace the wrong literal.
    """
    # newline="" keeps the file's own line ends.
    with open(expectation.file, encoding="utf-8", newline="") as file:
        source = file.read()
    call = _call_in(ast.parse(source), expectation)
    if call is None:
        raise_at(
            Place(expectation.file, expectation.line, expectation.function, expectation.line),
            RanksFailedError(
                "the text that is expected here is not in the file, which has changed since it was "
                "imported: nothing was accepted, run the test again"
            ),
        )
    print(f"Accepting new output at {expectation.file}:{call.lineno}")
    end = call.end_lineno or call.lineno
    edited, more_lines = expecttest.replace_string_literal(
        source, call.lineno, end, expectation.actual
    )
    with open(expectation.file, "w", encoding="utf-8", newline="") as file:
        file.write(edited)
    # expecttest reads this when it edits the same file for tests without ranks.
    expecttest.EDIT_HISTORY.state.setdefault(expectation.file, []).append((call.lineno, more_lines))


def _call_in(tree: ast.AST, expectation: Expectation) -> ast.Call | None:
    """Return the call that has the text as a literal; None if there is none.

    A rank may have imported the file before this process edited it, or after any of the edits. So
    this tries the rank's line with all the edits that the rank may not have seen.
    """
    edits = expecttest.EDIT_HISTORY.state.get(expectation.file, [])
    for seen in range(len(edits) + 1):
        line = expectation.line
        for where, more_lines in edits[seen:]:
            line += more_lines if line > where else 0
        if (call := _call_at(tree, line, expectation)) is not None:
            return call
    return None


def _call_at(tree: ast.AST, line: int, expectation: Expectation) -> ast.Call | None:
    """Return the smallest call on this line of the function that has the text as a literal."""
    name = expectation.function
    owners = (n for n in ast.walk(tree) if isinstance(n, _FUNCTIONS) and n.name == name)
    found = [
        call
        for owner in (owners if name else [tree])
        for call in ast.walk(owner)
        if isinstance(call, ast.Call)
        and call.lineno <= line <= (call.end_lineno or 0)
        and expectation.expected in _literals(call)
    ]
    return min(found, key=lambda call: (call.end_lineno or 0) - call.lineno, default=None)


_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def _literals(call: ast.Call) -> Iterator[object]:
    return (node.value for node in ast.walk(call) if isinstance(node, ast.Constant))
