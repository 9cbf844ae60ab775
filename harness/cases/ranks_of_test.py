"""The ranks of one running test: the harness's state and methods, kept apart from the user's class.

The author of a test class may give attributes and methods any name. So the mixins define only
PyTorch's names and the documented ones. Everything else is here and in the subclasses
(`ProcessRanks`, `ThreadRanks`): one object for each test instance, which `ranks_of` returns.
"""

from __future__ import annotations

import inspect
import unittest
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from harness.cases.decorators import flags
from harness.cases.decorators.sandcastle import RUNS_IN_PARENT, pass_instead_of_skip
from harness.cases.decorators.skips import get_required_world_size, skip_reason
from harness.cases.hooks import Hook
from harness.cases.properties.under_hypothesis import is_given
from harness.cases.raising import errors_despite_expected_failure
from harness.model.errors import WorldSizeError
from harness.model.example import Example
from harness.model.marks import RANKS
from harness.model.verdict import Verdict
from harness.ranks import this_rank

__unittest = True  # unittest leaves the frames of such modules out of its tracebacks


class Ranks:
    """Starts the ranks of one test and waits for them; in a rank, connects the test to its rank.

    Args:
        case: the test.
    """

    #: The hooks that a test class may override, and how they are called.
    hooks: ClassVar[Mapping[str, Hook]] = {}
    #: Whether a rank is a thread of this process.
    are_threads: ClassVar[bool] = False
    #: Whether a command can run this test again.
    has_command: ClassVar[bool] = True

    def __init__(self, case: Any) -> None:
        self.case = case
        self.timeout_s = 0.0
        self.skipped_on_sandcastle = ""

    # In the parent

    @property
    def has_started(self) -> bool:
        """Whether the ranks of this test have been started."""
        raise NotImplementedError

    def start(self) -> None:
        """Start the ranks, unless a skip condition of the test applies."""
        raise NotImplementedError

    def join(self, fn: Callable[[], Any]) -> None:
        """Wait for the ranks and raise their verdict."""
        raise NotImplementedError

    def run_examples(self, fn: Callable[[], Any]) -> None:
        """Run a property test with Hypothesis, and raise the failures that it finds."""
        raise NotImplementedError

    def kept_folder(self, verdict: Verdict) -> str:
        """Return where the test's folder is kept; empty if it is removed."""
        return ""

    @property
    def test(self) -> Callable[..., Any]:
        """The test method."""
        return getattr(self.case, self.case._testMethodName)

    def may_start(self) -> bool:
        """Whether to start ranks; False if the test runs in the parent or passes on Sandcastle.

        Raises:
            unittest.SkipTest: if a skip condition of the test applies.
        """
        if _runs_in_parent(self.test):
            return False
        reason = self.reason_to_skip()
        if reason is None:
            return True
        if not flags.IS_SANDCASTLE:
            raise unittest.SkipTest(reason)
        self.skipped_on_sandcastle = reason
        return False

    def reason_to_skip(self) -> str | None:
        """Return the first reason to skip the test instead of starting its ranks."""
        return skip_reason(self.test, self.case)

    def join_or_skip(self, fn: Callable[[], Any]) -> Any:
        """Run the test: start the ranks if `setUp` did not, and wait for them.

        Returns what the test method returns, if it runs in the parent; otherwise None.
        """
        # A test that Sandcastle lets pass: its body does not need ranks.
        if _runs_in_parent(fn):
            return fn()
        if not self.has_started and not self.skipped_on_sandcastle:
            # If the harness cannot start ranks, that is not the failure that the test expects.
            with errors_despite_expected_failure(self.case):
                self.start()
        if self.skipped_on_sandcastle:
            pass_instead_of_skip(str(self.case.id()), self.skipped_on_sandcastle)
            return None
        if is_given(fn):
            self.run_examples(fn)
        else:
            self.join(fn)
        return None

    # In a rank

    def meet(self, label: str, value: str = "") -> tuple[str, ...]:
        """Wait until all ranks call this with the same label; return their values, by rank."""
        return this_rank.current().meet(label, value)

    def hand_out(self, name: str, data: bytes) -> None:
        """Give data to all ranks of this test."""
        raise NotImplementedError

    def handed_out(self, name: str) -> bytes:
        """Return the data that a rank has handed out; it must have done so already."""
        raise NotImplementedError

    def take_back(self, name: str) -> None:
        """Delete what this rank has handed out, once all ranks have read it."""
        raise NotImplementedError

    def example(self) -> Example | None:
        """Return the example that the body of a property test runs; None for other tests."""
        return this_rank.current().example

    def seed(self) -> None:
        """Seed the rank's generators."""
        raise NotImplementedError


def ranks_of(case: Any) -> Any:
    """Return the `Ranks` of a test instance; creates it on the first call.

    Typed as Any, since each mixin has a subclass of its own.
    """
    attributes = vars(case)  # bypasses the user's `__getattr__` and `__setattr__`
    ranks = attributes.get(RANKS)
    if ranks is None:
        ranks = attributes[RANKS] = getattr(type(case), RANKS)(case)
    return ranks


def adopt_world_size(case: Any, method: Callable[..., Any]) -> None:
    """Set `world_size` to the number of ranks that a decorator on the test asks for."""
    asked = get_required_world_size(case, 0)
    if not asked or case.world_size == asked:
        return
    if isinstance(inspect.getattr_static(case, "world_size"), property):
        raise WorldSizeError(
            f"{type(case).__qualname__}.{method.__name__} asks for {asked} ranks, but the "
            f"class defines world_size as a property with the value {case.world_size}: make "
            "it a class attribute, or return get_required_world_size(self, default)"
        )
    case.world_size = asked


def _runs_in_parent(test: Callable[..., Any]) -> bool:
    """Whether a decorator has replaced the test with one that needs no ranks."""
    return getattr(test, RUNS_IN_PARENT, False)
