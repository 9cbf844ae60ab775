"""Whether a test is under Hypothesis's `@given`; what is then done imports Hypothesis, not this."""

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
    """Look at those tests of a new class that are under `@given`; none is without Hypothesis."""
    if "hypothesis" in sys.modules:
        from harness.ranks.child.given_body import note_layer

        for name in dir(cls):
            function = getattr(cls, name, None)
            if is_given(function):
                note_layer(function)


def run_in_rank(
    method: Any, example: Example | None, seed: Callable[[], None], is_thread: bool
) -> Any:
    """Run a test method in a rank: once, or with the example that it is to run.

    Returns what the method returns; None for one with examples.

    Args:
        method: the bound method, with all its decorators.
        example: the example; None for a test that has none.
        seed: seeds the rank's generators.
        is_thread: whether the rank is a thread; then who has started it is inside `as_examples`.
    """
    if example is None:
        return method()
    from harness.ranks.child.given_body import run_example

    with contextlib.nullcontext() if is_thread else as_examples(method):
        run_example(method, example, seed)
    return None


def as_examples(method: Any, body: Any = None) -> contextlib.AbstractContextManager[None]:
    """Inside, the method runs the example of the rank that calls it, and not Hypothesis's engine.

    Args:
        method: the bound method, with all its decorators.
        body: what is under `@given`, if something else stands in its place at the moment.
    """
    from harness.ranks.child.given_body import explicitly

    return explicitly(method, method.hypothesis.inner_test if body is None else body)


def run_property_test(
    case: Any, method: Callable[[], Any], world: ExampleWorld, example_s: float
) -> None:
    """In the parent, have Hypothesis run a test, with ranks for its body; raises what it has found.

    Args:
        case: the test.
        method: its method, with all its decorators.
        world: runs the examples.
        example_s: seconds that the body may take with one example.
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
