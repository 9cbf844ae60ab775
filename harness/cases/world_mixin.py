"""What all tests with ranks have in common, whatever a rank is: one test method, run by every rank.

The mixin does not depend on the TestCase base, so the same code stands under PyTorch's own. In the
parent an instance starts the ranks and waits for them; in a rank, an instance of the same class
runs the method. Names, hooks and their order are PyTorch's.
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
from harness.ranks.child.node_environment import local_rank

__unittest = True  # unittest leaves the frames of such modules out of its tracebacks

#: The number of ranks of a class that says nothing.
DEFAULT_WORLD_SIZE = 4

#: The rank of the parent, which is none.
MAIN_RANK = -1
#: What a rank or a world size is before it is known.
UNSET = -2


class WorldTestMixin(ReturnCheckMixin, AgreementMixin):
    """Run each test method in `world_size` ranks; the subclasses say what a rank is."""

    #: What runs the test; `harness.model.marks.RANKS` explains it.
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
        accelerator = current_accelerator()
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

    def join_or_run(self, fn: Callable[[], Any]) -> Callable[[], Any]:
        """What to put in the place of `fn`: in the parent it joins the ranks, in a rank it runs."""

        @wraps(fn)
        def wrapper(self: WorldTestMixin) -> Any:
            if getattr(self, "rank", UNSET) == UNSET:
                _set_up_past_torchs(self)
            if getattr(self, "rank", UNSET) == UNSET:
                raise RuntimeError(
                    f"{type(self).__qualname__}.setUp() must call super().setUp(): "
                    "without it no rank is started"
                )
            if self.rank == MAIN_RANK:
                return ranks_of(self).join_or_skip(fn)
            ranks: Ranks = ranks_of(self)
            return run_in_rank(fn, ranks.example(), ranks.seed, ranks.are_threads)

        return types.MethodType(wrapper, self)


def _set_up_past_torchs(case: WorldTestMixin) -> None:
    """Do the set-up that is left out where PyTorch's TestCase comes first.

    So it does in classes made by its `instantiate_device_type_tests`, and its setUp and
    tearDown call none but their own.
    """
    torchs = getattr(sys.modules.get("torch.testing._internal.common_utils"), "TestCase", None)
    order = type(case).__mro__
    if torchs in order and order.index(torchs) < order.index(WorldTestMixin):
        following: Any = super(torchs, case)
        following.setUp()
        case.addCleanup(following.tearDown)
