"""Places in the user's code: where a test is defined, and errors that point at a line of it."""

from __future__ import annotations

import ast
import functools
import linecache
import re
import unittest
from collections.abc import Iterator
from types import FunctionType
from typing import Any, NoReturn

from harness.cases.missing_names import unwrapped
from harness.diagnosis.sources import is_foreign
from harness.model.errors import HarnessError
from harness.model.outcome import Place

__unittest = True  # unittest leaves the frames of such modules out of its tracebacks


def users_function(test: object) -> Any:
    """What the user wrote of a test method, below decorators and instances made from it.

    Most of them say what they wrap, but not all: an instance of `@parametrize` hides it from
    pytest, which would take the parameters for fixtures. Then it is what the function refers to.
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
    """The functions that a function calls, as far as can be told: the likely ones first."""
    if isinstance(function, functools.partial | functools.partialmethod):
        yield function.func
    if not isinstance(function, FunctionType):
        return
    if (handle := vars(function).get("hypothesis")) is not None:
        yield getattr(handle, "inner_test", None)
    for cell in function.__closure__ or ():
        try:
            content = cell.cell_contents
        except ValueError:  # not yet bound
            continue
        if isinstance(content, FunctionType | functools.partial):
            yield content


def place_of_test(case: unittest.TestCase) -> Place:
    """The line where the test method is defined."""
    function = users_function(getattr(type(case), case._testMethodName))
    code = function.__code__
    first = code.co_firstlineno
    # The code begins with its decorators; a reader looks for the name.
    lines = linecache.getlines(code.co_filename)[first - 1 : first + _MAX_DECORATION]
    named = re.compile(rf"\s*(async\s+)?def\s+{code.co_name}\b")
    line = next((first + i for i, text in enumerate(lines) if named.match(text)), first)
    return Place(code.co_filename, line, code.co_name, first)


# Lines of decorators that a test may have.
_MAX_DECORATION = 100


def raise_at(place: Place, error: HarnessError) -> NoReturn:
    """Raise the error as if from the given line, where a reader (or an editor) wants to go.

    unittest and pytest leave out the harness's own frames; what remains of the traceback is the
    frame of the function made here, which claims to be the line in which the rank went wrong.
    """
    module = ast.parse("def raise_there():\n    raise error from None")
    # faulthandler does not always know the line.
    line = max(place.line or 0, place.first_line, 1)
    text = linecache.getline(place.file, line).rstrip()
    for node in ast.walk(module):
        if isinstance(node, ast.stmt | ast.expr):
            node.lineno = node.end_lineno = line
            # The whole line: Python underlines what is less.
            node.col_offset, node.end_col_offset = len(text) - len(text.lstrip()), len(text)
    is_known = place.first_line > 1  # else it may be the default
    module.body[0].lineno = place.first_line if is_known else _first_line(place.file, line)
    namespace: dict[str, Any] = {"error": error}
    exec(compile(module, place.file, "exec"), namespace)
    raise_there = namespace["raise_there"]
    raise_there.__code__ = raise_there.__code__.replace(co_name=place.function)
    raise_there()
    raise AssertionError("unreachable")


def _first_line(file: str, line: int) -> int:
    """Where the function begins that has this line in it; the line itself if there is none.

    A crash tells no more than file and line. pytest shows all that is between the two.
    """
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except (SyntaxError, ValueError):  # not Python, or of another version
        return line
    begins = [
        min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.lineno <= line <= (node.end_lineno or node.lineno)
    ]
    return max(begins, default=line)  # the innermost one begins last
