"""What all tests with ranks have in common, whatever a rank is: one test method, run by every rank.

The mixin does not depend on the TestCase base, so the same code stands under PyTorch's own. In the
parent an instance starts the ranks and waits for them; in a rank, an instance of the same class
runs the method. Names, hooks and their order are PyTorch's.
"""

from __future__ import annotations

import inspect
import sys
import types
import unittest
from collections.abc import Callable, Mapping
from functools import cached_property, wraps
from typing import Any, ClassVar

import torch

from harness.cases import flags
from harness.cases.agreement import AgreementMixin
from harness.cases.expecting import expect_file
from harness.cases.failing import as_no_fault_of_the_test
from harness.cases.hooks import Hook, check_hooks
from harness.cases.sandcastle import RUNS_IN_PARENT, pass_instead_of_skip
from harness.cases.skips import get_required_world_size, skip_reason
from harness.cases.under_hypothesis import is_given, note_given, run_in_rank
from harness.model.errors import WorldSizeError
from harness.model.example import Example
from harness.model.verdict import Verdict
from harness.ranks.child_place import local_rank

__unittest = True  # unittest leaves the frames of such modules out of its tracebacks

#: The number of ranks of a class that says nothing.
DEFAULT_WORLD_SIZE = 4

#: The rank of the parent, which is none.
MAIN_RANK = -1
#: What a rank or a world size is before it is known.
UNSET = -2


class WorldTestMixin(AgreementMixin):
    """Run each test method in `world_size` ranks; the subclasses say what a rank is."""

    #: The hooks that a subclass may override, and how they are called.
    _HOOKS: ClassVar[Mapping[str, Hook]] = {}

    #: Whether a rank is a thread of this process.
    _RANKS_ARE_THREADS: ClassVar[bool] = False

    rank: int

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        check_hooks(cls, cls._HOOKS)
        note_given(cls)

    def __init__(self, method_name: str = "runTest", methodName: str = "runTest") -> None:
        name = method_name if methodName == "runTest" else methodName
        super().__init__(name)
        self._skipped_on_sandcastle = ""
        method = getattr(self, name, None)
        if method is not None:
            self._adopt_world_size(method)
            setattr(self, name, self.join_or_run(method))

    # What a test may read or override, in the parent and in the ranks

    #: Number of ranks. A property may take the attribute's place.
    world_size: int = DEFAULT_WORLD_SIZE
    #: Seconds that the body of each test of the class may take; None for what holds for all.
    timeout_s: float | None = None

    @cached_property
    def device(self) -> torch.device:
        """This rank's device: an accelerator, which the ranks take in turn, or else the CPU.

        A class may have an attribute of this name of its own.
        """
        accelerator = torch.accelerator.current_accelerator()
        if accelerator is None:
            return torch.device("cpu")
        number = max(local_rank(self.rank), 0) % torch.accelerator.device_count()
        return torch.device(accelerator.type, number)

    @property
    def is_master(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    def assertExpected(self, s: str, subname: str | None = None) -> None:
        """Fail unless the text is what the test's file in the folder `expect` contains.

        Args:
            s: the text.
            subname: tells several texts of one test apart.
        """
        expect_file(self, s, subname)

    # The parent's side

    def setUp(self) -> None:
        super().setUp()
        self.rank = MAIN_RANK

    def join_or_run(self, fn: Callable[[], Any]) -> Callable[[], None]:
        """What to put in the place of `fn`: in the parent it joins the ranks, in a rank it runs."""

        @wraps(fn)
        def wrapper(self: WorldTestMixin) -> None:
            if getattr(self, "rank", UNSET) == UNSET:
                self._set_up_past_torchs()
            if getattr(self, "rank", UNSET) == UNSET:
                raise RuntimeError(
                    f"{type(self).__qualname__}.setUp() must call super().setUp(): "
                    "without it no rank is started"
                )
            if self.rank == MAIN_RANK:
                self._join_or_skip(fn)
            else:
                run_in_rank(fn, self._example(), self._seed_rank, self._RANKS_ARE_THREADS)

        return types.MethodType(wrapper, self)

    def _set_up_past_torchs(self) -> None:
        """Do the set-up that is left out where PyTorch's TestCase comes first.

        So it does in classes made by its `instantiate_device_type_tests`, and its setUp and
        tearDown call none but their own.
        """
        torchs = getattr(sys.modules.get("torch.testing._internal.common_utils"), "TestCase", None)
        order = type(self).__mro__
        if torchs in order and order.index(torchs) < order.index(WorldTestMixin):
            following: Any = super(torchs, self)
            following.setUp()
            self.addCleanup(following.tearDown)

    def _has_started(self) -> bool:
        """Whether the ranks of this test have been started."""
        raise NotImplementedError

    def _start_ranks(self) -> None:
        """Start the ranks, unless the test's skip conditions speak against it."""
        raise NotImplementedError

    def _join_ranks(self, fn: Callable[[], Any]) -> None:
        """Wait for the ranks and raise what they add up to."""
        raise NotImplementedError

    def _run_examples(self, fn: Callable[[], Any]) -> None:
        """Have Hypothesis run a test under its `@given`, and raise what it has found."""
        raise NotImplementedError

    def _kept_folder(self, verdict: Verdict) -> str:
        """Where the test's folder will be found afterwards; empty if it will not."""
        return ""

    def _example(self) -> Example | None:
        """In a rank, the example of a property test that the body is to run."""
        raise NotImplementedError

    def _seed_rank(self) -> None:
        """In a rank, seed its generators."""
        raise NotImplementedError

    def _may_start(self) -> bool:
        """Whether ranks are to be started: there is a reason for it, and none against it.

        Raises:
            unittest.SkipTest: if one of the test's conditions gives a reason for skipping it.
        """
        test = getattr(self, self._testMethodName)
        if _runs_in_parent(test):
            return False
        reason = self._reason_against_start()
        if reason is None:
            return True
        if not flags.IS_SANDCASTLE:
            raise unittest.SkipTest(reason)
        self._skipped_on_sandcastle = reason
        return False

    def _reason_against_start(self) -> str | None:
        """The first reason for skipping the test instead of starting its ranks."""
        return skip_reason(getattr(self, self._testMethodName), self)

    def _join_or_skip(self, fn: Callable[[], Any]) -> None:
        if _runs_in_parent(fn):
            fn()
            return
        if not self._has_started() and not self._skipped_on_sandcastle:
            with as_no_fault_of_the_test(self):
                self._start_ranks()
        if self._skipped_on_sandcastle:
            pass_instead_of_skip(str(self.id()), self._skipped_on_sandcastle)
            return
        if is_given(fn):
            self._run_examples(fn)
        else:
            self._join_ranks(fn)

    def _adopt_world_size(self, method: Callable[..., Any]) -> None:
        """Make `world_size` what a decorator on the test asks for."""
        asked = get_required_world_size(self, 0)
        if not asked or self.world_size == asked:
            return
        if isinstance(inspect.getattr_static(self, "world_size"), property):
            raise WorldSizeError(
                f"{type(self).__qualname__}.{method.__name__} asks for {asked} ranks, but the "
                f"class defines world_size as a property with the value {self.world_size}: make "
                "it a class attribute, or return get_required_world_size(self, default)"
            )
        self.world_size = asked


def _runs_in_parent(test: Callable[..., Any]) -> bool:
    """Whether a decorator has replaced the test by something that needs no ranks."""
    return getattr(test, RUNS_IN_PARENT, False)
