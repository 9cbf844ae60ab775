"""The base of all tests with ranks, whether a rank is a process or a thread.

In the parent, an instance of the class starts the ranks and waits for them. In each rank, another
instance of the same class runs the test method. `join_or_run` decides which of the two by
`self.rank`. Names, hooks and their order are PyTorch's. The mixin does not depend on the TestCase
base, so it also works with PyTorch's own.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from functools import cached_property, wraps
from typing import Any, ClassVar

import torch

from harness.cases.agreement import AgreementMixin
from harness.cases.assertions.expecting import expect_file
from harness.cases.decorators.devices import current_accelerator
from harness.cases.hooks import check_hooks
from harness.cases.properties.under_hypothesis import note_given, run_in_rank
from harness.cases.ranks_of_test import Ranks, adopt_world_size, ranks_of
from harness.cases.returning import ReturnCheckMixin, is_async_class
from harness.ranks import this_rank

__unittest = True  # unittest leaves the frames of such modules out of its tracebacks

#: The number of ranks if the class does not set one.
DEFAULT_WORLD_SIZE = 4

#: The value of `rank` in the parent.
MAIN_RANK = -1
#: The value of a rank or a world size before it is known.
UNSET = -2


class WorldTestMixin(ReturnCheckMixin, AgreementMixin):
    """Run each test method in `world_size` ranks; the subclasses say what a rank is."""

    #: The class that runs the test; `harness.model.marks.RANKS` explains it.
    __harness_ranks__: ClassVar[type[Ranks]] = Ranks

    rank: int

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if is_async_class(cls):
            raise TypeError(
                f"{cls.__qualname__}: tests with ranks cannot be coroutines: leave out the base "
                "IsolatedAsyncioTestCase, and call asyncio.run(...) in the test"
            )
        check_hooks(cls, cls.__harness_ranks__.hooks)
        note_given(cls)

    def __init__(self, method_name: str = "runTest", methodName: str = "runTest") -> None:
        name = method_name if methodName == "runTest" else methodName
        super().__init__(name)
        method = getattr(self, name, None)
        if method is not None:
            adopt_world_size(self, method)
            # On the instance: unittest looks the method up there when it runs the test, and
            # subclasses of the user's class keep the original.
            setattr(self, name, self.join_or_run(method))

    # What a test may read or override, in the parent and in the ranks

    #: Number of ranks. A subclass may define a property instead.
    world_size: int = DEFAULT_WORLD_SIZE
    #: Time limit in seconds for the body of each test of the class; None for HARNESS_TIMEOUT.
    timeout_s: float | None = None

    @cached_property
    def device(self) -> torch.device:
        """This rank's device: ranks take the accelerators in turn; the CPU if there are none.

        A class may define its own attribute of this name.
        """
        accelerator = current_accelerator()
        if accelerator is None:
            return torch.device("cpu")
        process = this_rank.of_process()
        number = max(self.rank, 0) if process is None else process.local_rank
        return torch.device(accelerator.type, number % torch.accelerator.device_count())

    @property
    def is_master(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    def assertExpected(self, s: str, subname: str | None = None) -> None:
        """Fail unless the text equals the contents of the test's file in the folder `expect`.

        Args:
            s: the text.
            subname: distinguishes several texts of one test.
        """
        expect_file(self, s, subname)

    # The parent's side

    def setUp(self) -> None:
        super().setUp()
        self.rank = MAIN_RANK

    def join_or_run(self, fn: Callable[[], Any]) -> Callable[[], Any]:
        """Return a replacement for `fn` that joins the ranks in the parent, and runs in a rank."""

        @wraps(fn)
        def wrapper(self: WorldTestMixin) -> Any:
            if getattr(self, "rank", UNSET) == UNSET:
                _run_skipped_set_up(self)
            if getattr(self, "rank", UNSET) == UNSET:
                raise RuntimeError(
                    f"{type(self).__qualname__}.setUp() must call super().setUp(): "
                    "without it no rank is started"
                )
            # The rank tells the parent's instance from a rank's; both run this wrapper.
            if self.rank == MAIN_RANK:
                return ranks_of(self).join_or_skip(fn)
            ranks: Ranks = ranks_of(self)
            return run_in_rank(fn, ranks.example(), ranks.seed, ranks.are_threads)

        return types.MethodType(wrapper, self)


def _run_skipped_set_up(case: WorldTestMixin) -> None:
    """Call the setUp methods that PyTorch's TestCase does not call.

    In classes made by torch's `instantiate_device_type_tests`, PyTorch's TestCase comes first in
    the method resolution order, and its setUp and tearDown do not call `super()` (torch 2.13).
    Without this, no rank would be started.
    """
    torchs = getattr(sys.modules.get("torch.testing._internal.common_utils"), "TestCase", None)
    order = type(case).__mro__
    if torchs in order and order.index(torchs) < order.index(WorldTestMixin):
        following: Any = super(torchs, case)
        following.setUp()
        case.addCleanup(following.tearDown)
