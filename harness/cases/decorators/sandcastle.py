"""Skips that pass on Sandcastle instead.

On Meta's Sandcastle a skipped test opens a task for its owner. So there such a test passes; its
reason is logged, and the summary counts it.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, TypeVar

from harness.cases.decorators import flags
from harness.model import notes
from harness.model.decorator_arguments import require_arguments

__unittest = True  # unittest leaves the frames of such modules out of its tracebacks

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Marks a test of a rank class that runs in the parent, without ranks.
RUNS_IN_PARENT = "__harness_runs_in_parent__"


def skip_but_pass_in_sandcastle(reason: str) -> Callable[[T], T]:
    """Skip a test (or all tests of a class), but let it pass under Sandcastle.

    Args:
        reason: why; shown as the skip's reason, logged under Sandcastle.

    Raises:
        TypeError: if the decorator is written without an argument.
    """
    require_arguments(reason, '@skip_but_pass_in_sandcastle("reason")')
    return skip_but_pass_in_sandcastle_if(True, reason)


def skip_but_pass_in_sandcastle_if(condition: object, reason: str) -> Callable[[T], T]:
    """Do the same as `skip_but_pass_in_sandcastle`, if the condition is true."""

    def decorator(test: T) -> T:
        if not condition:
            return test
        if not flags.IS_SANDCASTLE:
            test.__unittest_skip__ = True  # type: ignore[attr-defined]
            test.__unittest_skip_why__ = reason  # type: ignore[attr-defined]
            return test
        if isinstance(test, type):
            return _passing_class(test, reason)  # type: ignore[return-value]
        return _passing(test, reason)  # type: ignore[arg-type, return-value]

    return decorator


def pass_instead_of_skip(name: str, reason: str) -> None:
    """Log and count a test that passes here and would be skipped elsewhere."""
    text = f"{name}: {reason}"
    logger.warning("passed on Sandcastle instead of being skipped: %s", text)
    notes.add(notes.SANDCASTLE_PASS, text)


def _passing(test: Callable[..., Any], reason: str) -> Callable[..., Any]:
    @functools.wraps(test)
    def passed(self: Any, *args: Any, **kwargs: Any) -> None:
        pass_instead_of_skip(self.id() if hasattr(self, "id") else test.__qualname__, reason)

    setattr(passed, RUNS_IN_PARENT, True)
    return passed


def _passing_class(cls: type, reason: str) -> type:
    """Make all tests of a class pass; its fixtures do not run, like those of a skipped class."""
    # Inherited tests too.
    for name in dir(cls):
        member = getattr(cls, name)
        if name.startswith("test") and callable(member):
            setattr(cls, name, _passing(member, reason))
    for fixture in ("setUp", "tearDown"):
        setattr(cls, fixture, lambda self: None)
    for fixture in ("setUpClass", "tearDownClass"):
        setattr(cls, fixture, classmethod(lambda owner: None))
    return cls
