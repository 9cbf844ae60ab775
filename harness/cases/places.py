"""Places in the user's code: where a test is defined, and errors that point at a line of it."""

from __future__ import annotations

import ast
import functools
import linecache
import re
import unittest
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any, NoReturn

from harness.cases.missing_names import unwrapped
from harness.diagnosis.sources import is_foreign
from harness.model.errors import (
    FolderError,
    HarnessError,
    SettingError,
    StartError,
    WorldSizeError,
)
from harness.model.outcome import Place

__unittest = True  # unittest leaves the frames of such modules out of its tracebacks


def users_function(test: object) -> Any:
    """Return the user's function inside a test method, below decorators and parametrization.

    Most decorators set `__wrapped__`. An instance of `@parametrize` must not: pytest would take the
    test's parameters for fixtures. For those, search the functions in its closure.
    """
    seen: set[int] = set()
    found = [unwrapped(test)]
    while found:
        function = found.pop(0)
        if isinstance(function, FunctionType) and not is_foreign(function.__code__.co_filename):
            return function
        if id(function) not in seen:
            seen.add(id(function))
            found += map(unwrapped, _inner(function))
    return unwrapped(test)


def _inner(function: object) -> Iterator[object]:
    """Yield the functions that a function probably calls, the likely ones first."""
    if isinstance(function, functools.partial | functools.partialmethod):
        yield function.func
    if not isinstance(function, FunctionType):
        return
    if (handle := vars(function).get("hypothesis")) is not None:
        yield getattr(handle, "inner_test", None)
    for cell in function.__closure__ or ():
        try:
            content = cell.cell_contents
        except ValueError:  # the cell is empty: the variable has no value yet
            continue
        if isinstance(content, FunctionType | functools.partial):
            yield content


def place_of_test(case: unittest.TestCase) -> Place:
    """Return the line where the test method is defined."""
    function = users_function(getattr(type(case), case._testMethodName))
    code = function.__code__
    first = code.co_firstlineno
    # co_firstlineno is the line of the first decorator; a reader expects the line of the `def`.
    lines = linecache.getlines(code.co_filename)[first - 1 : first + _MAX_DECORATION]
    named = re.compile(rf"\s*(async\s+)?def\s+{code.co_name}\b")
    line = next((first + i for i, text in enumerate(lines) if named.match(text)), first)
    return Place(code.co_filename, line, code.co_name, first)


# How many lines of decorators to search for the `def`.
_MAX_DECORATION = 100


def raise_at(place: Place, error: HarnessError) -> NoReturn:
    """Raise the error as if from the given line, so that readers and editors can go there.

    unittest and pytest hide the harness's own frames. What remains of the traceback is the frame of
    a function compiled here, whose file, line and name are those where the rank went wrong.
    """
    module = ast.parse("def raise_there():\n    raise error from None")
    # faulthandler does not always report the line (0 or None then).
    line = max(place.line or 0, place.first_line, 1)
    text = linecache.getline(place.file, line).rstrip()
    for node in ast.walk(module):
        if isinstance(node, ast.stmt | ast.expr):
            node.lineno = node.end_lineno = line
            # Span the whole line: CPython 3.11 and later underline a part of a line.
            node.col_offset, node.end_col_offset = len(text) - len(text.lstrip()), len(text)
    is_known = place.first_line > 1  # 1 is also the default of `Place`
    module.body[0].lineno = place.first_line if is_known else _first_line(place.file, line)
    namespace: dict[str, Any] = {"error": error}
    exec(compile(module, place.file, "exec"), namespace)
    raise_there = namespace["raise_there"]
    raise_there.__code__ = raise_there.__code__.replace(co_name=place.function)
    raise_there()
    raise AssertionError("unreachable")


def raise_errors_at_test(case: unittest.TestCase, step: Callable[[], object]) -> None:
    """Call a step of the harness; raise errors of the test's configuration from the test's line.

    The message of these errors says everything: a traceback through the harness adds nothing. This
    takes a callable, since a context manager would add a frame of contextlib to the traceback.
    """
    try:
        step()
    except (FolderError, SettingError, StartError, WorldSizeError) as error:
        raise_at(place_of_test(case), type(error)(str(error)))


def _first_line(file: str, line: int) -> int:
    """Return the first line of the function that contains this line; the line itself if none does.

    A crash report has only file and line. pytest shows the source from the function's first line to
    the failing one.
    """
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except (SyntaxError, ValueError):  # not Python source, or of another Python version
        return line
    begins = [
        min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.lineno <= line <= (node.end_lineno or node.lineno)
    ]
    return max(begins, default=line)  # the innermost one begins last
