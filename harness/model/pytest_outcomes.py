"""pytest's exceptions for outcomes, where pytest is imported; nothing here imports it.

They derive from BaseException (pytest 9), and are by identity what `pytest.skip()`, `xfail()`,
`fail()` and `exit()` raise, and a `raises()` whose body did not raise.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from harness.model.outcome import Skipped

#: The name by which a problem of a rank tells of `pytest.exit()`.
EXIT = "_pytest.outcomes.Exit"


def outcomes() -> Any:
    """Return pytest's module of outcomes; None if it is not imported."""
    return sys.modules.get("_pytest.outcomes")


def runs_here() -> bool:
    """Whether pytest runs the present test of this process."""
    return "PYTEST_CURRENT_TEST" in os.environ and outcomes() is not None


def skip_of(error: BaseException) -> Skipped | None:
    """What `pytest.skip()`, `importorskip()` or `xfail()` have raised; None for anything else."""
    module = outcomes()
    if module is None or not isinstance(error, (module.Skipped, module.XFailed)):
        return None
    return Skipped(str(error.msg or ""), is_xfail=isinstance(error, module.XFailed))


def is_failure(kind: type[BaseException]) -> bool:
    """Whether it is what `pytest.fail()` raises, or a `raises()` whose body did not raise."""
    module = outcomes()
    return module is not None and issubclass(kind, module.Failed)
