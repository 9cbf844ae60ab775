"""Recognize the exceptions of `pytest.skip()`, `xfail()`, `fail()` and `exit()`.

They derive from BaseException (pytest 9), so `except Exception` does not catch them. Nothing here
imports pytest: if it is not imported, no exception is one of its.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from harness.model.outcome import Skipped

#: The `Problem.type_name` of a rank that called `pytest.exit()`.
EXIT = "_pytest.outcomes.Exit"


def outcomes() -> Any:
    """Return the module `_pytest.outcomes`; None if it is not imported."""
    return sys.modules.get("_pytest.outcomes")


def runs_here() -> bool:
    """Whether pytest runs the current test of this process."""
    return "PYTEST_CURRENT_TEST" in os.environ and outcomes() is not None


def skip_of(error: BaseException) -> Skipped | None:
    """Return the outcome for `pytest.skip()`, `importorskip()` or `xfail()`; None for others."""
    module = outcomes()
    if module is None or not isinstance(error, (module.Skipped, module.XFailed)):
        return None
    return Skipped(str(error.msg or ""), is_xfail=isinstance(error, module.XFailed))


def is_failure(kind: type[BaseException]) -> bool:
    """Whether `pytest.fail()` raises this type, or a `raises()` whose body did not raise."""
    module = outcomes()
    return module is not None and issubclass(kind, module.Failed)
