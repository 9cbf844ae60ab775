"""Entry points for property tests that do not import Hypothesis unless a test uses it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from harness.model import settings
from harness.model.example import Example

if TYPE_CHECKING:
    from harness.cases.properties.example_worlds import ExampleWorld

__unittest = True  # unittest leaves the frames of such modules out of its tracebacks


def is_given(function: Any) -> bool:
    """Whether a test method is under `@given`."""
    return bool(getattr(function, "is_hypothesis_test", False)) and hasattr(function, "hypothesis")


def note_given(cls: type) -> None:
    """Record the tests of a new class that are under `@given`."""
    # If Hypothesis has not been imported, no test is under `@given`.
    if "hypothesis" in sys.modules:
        from harness.cases.properties.given_body import note_layer

        for name in dir(cls):
            function = getattr(cls, name, None)
            if is_given(function):
                note_layer(function)


def run_in_rank(
    method: Any, example: Example | None, seed: Callable[[], None], is_thread: bool
) -> Any:
    """Run a test method in a rank: a property test with its example, any other test as it is.

    Returns what the method returns; None for a property test.

    Args:
        method: the bound method, with all its decorators.
        example: the example; None if it is not a property test.
        seed: seeds the rank's generators.
        is_thread: whether the rank is a thread. Threads share the test function, so the parent has
            already entered `as_examples` for all of them.
    """
    if example is None:
        return method()
    from harness.cases.properties.given_body import run_example

    with contextlib.nullcontext() if is_thread else as_examples(method):
        run_example(method, example, seed)
    return None


def as_examples(method: Any, body: Any = None) -> contextlib.AbstractContextManager[None]:
    """Make the method run the calling rank's example, instead of Hypothesis's engine.

    Args:
        method: the bound method, with all its decorators.
        body: the function under `@given`, if it is currently replaced by another.
    """
    from harness.cases.properties.given_body import explicitly

    return explicitly(method, method.hypothesis.inner_test if body is None else body)


def run_property_test(
    case: Any, method: Callable[[], Any], world: ExampleWorld, example_s: float
) -> None:
    """Run a property test in the parent; raise the failures that Hypothesis finds.

    Args:
        case: the test.
        method: its method, with all its decorators.
        world: runs the examples.
        example_s: time limit in seconds for one example.
    """
    from harness.cases.properties.example_budget import ExampleBudget
    from harness.cases.properties.property_tests import PropertyTest

    budget = ExampleBudget(
        example_s,
        settings.DEADLOCK_S.value(),
        settings.PROPERTY_TIMEOUT_S.value(),
        settings.SHRINK_TIMEOUT_S.value(),
    )
    PropertyTest(case, method, world, budget).run()
