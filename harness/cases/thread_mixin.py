"""The mixin for tests whose ranks are threads of the test's process, which share its memory."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping
from functools import partial, wraps
from typing import Any, ClassVar, TypeVar, overload

from harness.cases.assertions.expecting import accept
from harness.cases.decorators.overrides import (
    audit_of,
    check_timeout,
    group_timeout_s,
    timeout_of,
)
from harness.cases.places import raise_errors_at_test
from harness.cases.properties.under_hypothesis import is_given
from harness.cases.ranks_of_test import ranks_of
from harness.cases.thread_ranks import ThreadRanks, wait_and_raise
from harness.cases.world_mixin import DEFAULT_WORLD_SIZE, MAIN_RANK, WorldTestMixin
from harness.model.errors import PropertyError
from harness.model.outcome import Passed
from harness.model.phase import Phase
from harness.model.returned import check_returned
from harness.model.spec import check_world_size
from harness.ranks import expectations
from harness.ranks.body import run_body
from harness.ranks.threads.rank import current_rank
from harness.ranks.threads.world import ThreadWorld

__unittest = True  # unittest leaves the frames of such modules out of its tracebacks

T = TypeVar("T", bound=Callable[..., Any])


class ThreadTestMixin(WorldTestMixin):
    """Run each test method in `world_size` threads; see `MultiThreadedTestCase`."""

    __harness_ranks__ = ThreadRanks

    MAIN_THREAD_RANK: ClassVar[int] = MAIN_RANK

    threads: list[Any]
    global_store: Any

    # What a test may read or override, in the parent and in the ranks

    def perThreadSetUp(self) -> None:
        """Set up a rank; runs in every rank before the test method, with its process group up."""

    def perThreadTearDown(self) -> None:
        """Tear down a rank; runs in every rank after the test method."""

    def assertEqualOnRank(self, x: Any, y: Any, msg: Any = None, *, rank: int = 0) -> None:
        """Call `assertEqual` on one rank; do nothing on the others.

        For values that only one rank has. PyTorch's tests need it where ranks draw random numbers,
        because its thread ranks share their generators. Here each rank has its own, with the same
        seed.
        """
        if self.rank == rank:
            self.assertEqual(x, y, msg)

    def assertNotEqualOnRank(self, x: Any, y: Any, msg: Any = None, *, rank: int = 0) -> None:
        """Call `assertNotEqual` on one rank; do nothing on the others."""
        if self.rank == rank:
            self.assertNotEqual(x, y, msg)

    # The parent's side

    def setUp(self) -> None:
        super().setUp()
        self.threads = []

    def tearDown(self) -> None:
        super().tearDown()
        ranks_of(self).end()
        self.threads = []

    @property
    def _current_test_name(self) -> str:
        # PyTorch takes the name from id(). That is wrong where absl adds arguments to the id, and
        # for names with dots, which `setattr` allows.
        return str(self._testMethodName)

    def _spawn_threads(self) -> None:
        """Start the ranks, unless a skip condition of the test applies."""
        ranks_of(self).start_unless_skipped()

    # The rank's side

    @classmethod
    def _run(cls, test_name: str, rank: int, world_size: int, **kwargs: Any) -> None:
        """Run the test in a rank. An override calls `run_test_with_threaded_pg` on an instance."""
        self = cls(test_name)
        self.rank = rank
        _give_own_tolerances(self)
        self.run_test_with_threaded_pg(test_name, rank, world_size)

    def run_test_with_threaded_pg(self, test_name: str, rank: int, world_size: int) -> None:
        """Run the body in this rank, in a process group of threads, and report the outcome."""
        thread = current_rank()
        _copy_set_up_attributes(self, thread.set_up)
        limit_s = timeout_of(self, getattr(self, test_name))
        with thread.groups.joined(rank, world_size, group_timeout_s(limit_s)):
            thread.seed()
            outcome = run_body(
                self,
                self.perThreadSetUp,
                self.perThreadTearDown,
                thread.progress.enter,
                on_problem=thread.fails,
            )
            thread.report(outcome)


def _copy_set_up_attributes(case: Any, attributes: Mapping[str, Any]) -> None:
    """Copy attributes of the parent's instance to a rank's instance, unless it has them already.

    Threads share their memory, so a test expects to find what `setUp` has set. As in PyTorch, this
    does not overwrite what the class or the rank has set.
    """
    for name, value in attributes.items():
        if not hasattr(case, name):
            setattr(case, name, value)


def _give_own_tolerances(case: Any) -> None:
    """Set the tolerances of PyTorch's device-generic classes for this thread.

    These classes keep them in a `threading.local` that only the main thread has filled (torch
    2.13). Without this, reading `self.precision` in a rank raises AttributeError.
    """
    module = sys.modules.get("torch.testing._internal.common_device_type")
    if module is not None and isinstance(case, module.DeviceTypeTestBase):
        case._tls = threading.local()
        case._tls.precision, case._tls.rel_tol = type(case)._precision, type(case)._rel_tol


@overload
def spawn_threads_and_init_comms(
    func: T, timeout: float | None = None, world_size: int = DEFAULT_WORLD_SIZE
) -> T: ...


@overload
def spawn_threads_and_init_comms(
    func: None = None, timeout: float | None = None, world_size: int = DEFAULT_WORLD_SIZE
) -> Callable[[T], T]: ...


def spawn_threads_and_init_comms(
    func: Callable[..., Any] | None = None,
    timeout: float | None = None,
    world_size: int = DEFAULT_WORLD_SIZE,
) -> Any:
    """Decorator: run a method of any TestCase in one thread per rank, all with the same `self`.

    Args:
        func: the method; omitted if the decorator has arguments.
        timeout: time limit for the ranks in seconds; by default the test's.
        world_size: number of ranks.

    Raises:
        PropertyError: if the method is under `@given`, which must be the outer decorator.
        SettingError: if the timeout is not a positive number.

    Raises (from the method):
        RanksFailedError: an assertion failed (a unittest failure).
        RanksRaisedError, RanksDiedError, RanksTimedOutError, RanksDisagreeError: errors.
    """
    if timeout is not None:
        check_timeout(timeout, f"@spawn_threads_and_init_comms(timeout={timeout!r})")
    if func is None:
        return partial(spawn_threads_and_init_comms, timeout=timeout, world_size=world_size)
    method = func
    if is_given(method):
        raise PropertyError(
            f"{method.__qualname__}: put @given above @spawn_threads_and_init_comms, or every "
            "rank draws its own examples"
        )

    @wraps(method)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> None:
        limit_s = timeout_of(self, wrapper) if timeout is None else timeout

        def body(rank: int) -> None:
            thread = current_rank()
            with thread.groups.joined(rank, world_size, group_timeout_s(limit_s)):
                thread.seed()
                thread.progress.enter(Phase.BODY)
                check_returned(method(self, *args, **kwargs), method)
                thread.progress.enter(Phase.TEAR_DOWN)
            thread.report(Passed())

        raise_errors_at_test(self, lambda: check_world_size(world_size, method.__qualname__))
        expectations.install()
        world = ThreadWorld(int(world_size), body, audit_of(self, method))
        try:
            world.start()
            wait_and_raise(world, limit_s, self)
            accept({thread.rank: thread.expectations for thread in world.threads})
        finally:
            world.end()

    return wrapper
