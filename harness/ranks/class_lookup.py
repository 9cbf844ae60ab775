"""Check before the launch that ranks can import a test class.

A rank that is a process imports the module of the test class by its name. With this check, the user
reads one sentence instead of a traceback from each rank.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import linecache
import os
import sys
import threading
from types import FrameType

from harness.model.errors import StartError
from harness.ranks.launch.preload_plan import main_module

_MAIN = "__main__"


def check_class(cls: type, is_found: bool) -> None:
    """Raise an error if ranks cannot import a test class by its module and name.

    Args:
        cls: the class.
        is_found: whether this process finds it in its module.

    Raises:
        StartError: with the reason, and what to do.
    """
    name, module = cls.__qualname__, cls.__module__
    if module == _MAIN:
        check_main()
    elif module not in sys.modules and not _is_importable(module):
        raise StartError(
            f"ranks cannot import class {name}: they are other processes, and its module "
            f"{module!r} does not exist as a file (was the class made by exec() or type()?). Write "
            "the class to a file, and import it from there"
        )
    if module in sys.modules and not is_found:
        raise StartError(
            f"ranks cannot import class {name}: they are other processes, which look it up by its "
            f"name in module {module}, and the module has no such name. Define test classes at "
            "module level, or assign a class that a function returns to its name there"
        )


def check_main() -> None:
    """Raise an error if a new process cannot import the script that was started.

    Raises:
        StartError: with the reason, and what to do.
    """
    path, name = main_module()
    if name is not None:
        return
    if path is None or os.path.basename(path).startswith("<"):  # <stdin>, in some versions
        raise StartError(
            "ranks cannot import a test class that is not in a file: they are other processes, and "
            "this one runs code from python -c, standard input, an interactive session or a "
            "notebook. Save the test to a file and run that, or call run_on_ranks(function, "
            "world_size), which sends the function itself"
        )
    if not os.path.exists(path):
        raise StartError(
            f"ranks cannot import the test class: they are other processes, and the file {path} "
            "no longer exists. Keep the file until the tests are done"
        )
    line = _unguarded_line(path)
    if line:
        text = linecache.getline(path, line).strip()
        raise StartError(
            f"{path}:{line} runs the tests whenever the file is imported, and ranks, which are "
            "other processes, import it to find the test class. Run the tests only when the file "
            f"is the script:\n\n    if __name__ == '__main__':\n        {text}"
        )


def _is_importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError, AttributeError):
        return False


def _unguarded_line(path: str) -> int:
    """Return the unconditional line of the script that is running the tests; 0 if none."""
    # The frame of the script is on the main thread's stack while it calls unittest.main(). Its
    # current line is the call.
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    while frame is not None and not _is_script(frame, path):
        frame = frame.f_back
    if frame is None:
        return 0
    return 0 if _is_guarded(path, frame.f_lineno) else frame.f_lineno


@functools.cache
def _is_guarded(path: str, line: int) -> bool:
    """Whether a new process that imports the script may skip one of its lines."""
    try:
        tree = ast.parse("".join(linecache.getlines(path)))
    except SyntaxError:  # it has been edited since
        return True
    return _is_conditional(tree.body, line)


def _is_script(frame: FrameType, path: str) -> bool:
    code = frame.f_code
    is_module = code.co_name == "<module>" and frame.f_globals.get("__name__") == _MAIN
    return is_module and os.path.abspath(code.co_filename) == path


def _is_conditional(body: list[ast.stmt], line: int) -> bool:
    """Whether the line is in a conditional statement of the body, or in no statement."""
    there = [item for item in body if item.lineno <= line <= (item.end_lineno or line)]
    for statement in there:
        # `with` and `try` run their body always, so look at the statements inside.
        if isinstance(statement, ast.With | ast.Try):
            return _is_conditional(statement.body, line)
        if hasattr(statement, "body"):
            return True
        if any(isinstance(node, ast.IfExp | ast.BoolOp) for node in ast.walk(statement)):
            return True
    return not there
