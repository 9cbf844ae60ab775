"""The mixin for ranks that are threads: no process is started, and the test's memory is shared."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial, wraps
from typing import Any, ClassVar, TypeVar, overload

from harness.cases.example_worlds import Answer, Question, ThreadWorlds
from harness.cases.expecting import accept
from harness.cases.failing import (
    as_no_fault_of_the_test,
    raise_verdict,
    report_stuck_threads,
)
from harness.cases.hooks import THREAD_HOOKS
from harness.cases.require_torch import require_distributed
from harness.cases.timeouts import check_timeout, group_timeout_s, timeout_of
from harness.cases.under_hypothesis import as_examples, is_given, run_property_test
from harness.cases.world_tests import DEFAULT_WORLD_SIZE, MAIN_RANK, WorldTestMixin
from harness.model import settings
from harness.model.errors import PropertyError
from harness.model.example import Example
from harness.model.outcome import Passed
from harness.model.spec import check_world_size
from harness.model.timeline import BODY, TEAR_DOWN
from harness.model.verdict import judge
from harness.ranks import expectations
from harness.ranks.child_body import run_body
from harness.ranks.rank_thread import current_rank
from harness.ranks.thread_world import ThreadWorld
from harness.ranks.tracks import threads_left_behind

__unittest = True  # unittest leaves the frames of such modules out of its tracebacks

T = TypeVar("T", bound=Callable[..., Any])


class ThreadTestMixin(WorldTestMixin):
    """Run each test method in `world_size` threads; see `MultiThreadedTestCase`."""

    _HOOKS = THREAD_HOOKS
    _RANKS_ARE_THREADS = True

    MAIN_THREAD_RANK: ClassVar[int] = MAIN_RANK

    threads: list[Any]
    global_store: Any

    # What a test may read or override, in the parent and in the ranks

    def perThreadSetUp(self) -> None:
        """Runs in every rank before the test method, with its process group up."""

    def perThreadTearDown(self) -> None:
        """Runs in every rank after the test method."""

    def assertEqualOnRank(self, x: Any, y: Any, msg: Any = None, *, rank: int = 0) -> None:
        """As `assertEqual` on one rank; nothing on the others.

        For what only one rank knows. PyTorch's tests need it where ranks draw random numbers, for
        its thread ranks share their generators; here each has its own, seeded alike.
        """
        if self.rank == rank:
            self.assertEqual(x, y, msg)

    def assertNotEqualOnRank(self, x: Any, y: Any, msg: Any = None, *, rank: int = 0) -> None:
        """As `assertNotEqual` on one rank; nothing on the others."""
        if self.rank == rank:
            self.assertNotEqual(x, y, msg)

    def _meet(self, label: str, value: str = "") -> tuple[str, ...]:
        return current_rank().meet(label, value)

    def _hand_out(self, name: str, data: bytes) -> None:
        current_rank().groups.handed_out[name] = data

    def _handed_out(self, name: str) -> bytes:
        return current_rank().groups.handed_out[name]

    def _take_back(self, name: str) -> None:
        del current_rank().groups.handed_out[name]

    # The parent's side

    def __init__(self, method_name: str = "runTest", methodName: str = "runTest") -> None:
        super().__init__(method_name, methodName)
        self._thread_world: ThreadWorld | None = None
        self._is_ready = False

    def setUp(self) -> None:
        super().setUp()
        self.threads = []

    def tearDown(self) -> None:
        super().tearDown()
        self._end_threads()
        self.threads = []

    @property
    def _current_test_name(self) -> str:
        return str(self.id()).split(".")[-1]

    def _spawn_threads(self) -> None:
        """Start the ranks, unless the test's skip conditions speak against it."""
        if not self._may_start():
            return
        require_distributed()
        test = getattr(self, self._testMethodName)
        self._timeout_s = timeout_of(self, test)
        self.addCleanup(self._end_threads)
        self._is_ready = True
        if not is_given(test):  # else every example has threads of its own
            self._thread_world = self._new_world()
            self._thread_world.start()

    def _new_world(self) -> ThreadWorld:
        """Ranks that have not begun."""
        cls, name = type(self), self._current_test_name
        size = check_world_size(self.world_size, cls.__qualname__)
        expectations.install()
        world = ThreadWorld(size, lambda rank: cls._run(name, rank, size))
        self.threads = list(world.threads)
        # Where PyTorch's class keeps it, for overrides that bring up the group themselves.
        cls.global_store = world.groups.store
        return world

    def _has_started(self) -> bool:
        return self._is_ready

    def _start_ranks(self) -> None:
        self._spawn_threads()

    def _join_ranks(self, fn: Callable[[], Any]) -> None:
        world = self._thread_world
        assert world is not None
        _see_through(world, self._timeout_s, self)
        accept({thread.rank: thread.expectations for thread in world.threads})

    def _run_examples(self, fn: Callable[[], Any]) -> None:
        body = fn.hypothesis.inner_test  # type: ignore[attr-defined]

        def run(question: Question) -> Answer:
            self._end_threads()
            world = self._thread_world = self._new_world()
            for thread in world.threads:
                thread.example = Example(question.values, question.wants_notes)
            with as_examples(fn, body):
                world.start()
                reports = world.wait(question.limit_s, question.deadlock_s)
            stuck = [thread.name for thread in world.running()]
            report_stuck_threads(self, stuck)
            said = [thread.example.remarks for thread in world.threads if thread.example]
            return Answer(judge(reports), tuple(said), left_running=bool(stuck))

        run_property_test(self, fn, ThreadWorlds(run), self._timeout_s)

    def _example(self) -> Example | None:
        return current_rank().example

    def _seed_rank(self) -> None:
        current_rank().seed()

    def _end_threads(self) -> None:
        world, self._thread_world = self._thread_world, None
        if world is not None:
            world.end()

    # The rank's side

    @classmethod
    def _run(cls, test_name: str, rank: int, world_size: int, **kwargs: Any) -> None:
        """The entry of a rank. An override calls `run_test_with_threaded_pg` on an instance."""
        self = cls(test_name)
        self.rank = rank
        if hasattr(self, "_tls"):
            # PyTorch's device-generic classes keep their tolerances by thread.
            self._tls = threading.local()
            self._tls.precision, self._tls.rel_tol = cls._precision, cls._rel_tol  # type: ignore[attr-defined]
        self.run_test_with_threaded_pg(test_name, rank, world_size)

    def run_test_with_threaded_pg(self, test_name: str, rank: int, world_size: int) -> None:
        """Run the body in this rank, in a process group of threads; say what became of it."""
        thread = current_rank()
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
    """Decorator: run a method of any TestCase in a thread for each rank, all with the same `self`.

    Args:
        func: the method; left out where the decorator has arguments.
        timeout: seconds that the ranks may take; by default what holds for the test.
        world_size: number of ranks.

    Raises:
        PropertyError: if the method is under `@given`, which has to be around this.
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
                thread.progress.enter(BODY)
                method(self, *args, **kwargs)
                thread.progress.enter(TEAR_DOWN)
            thread.report(Passed())

        expectations.install()
        world = ThreadWorld(check_world_size(world_size, method.__qualname__), body)
        try:
            world.start()
            _see_through(world, limit_s, self)
            accept({thread.rank: thread.expectations for thread in world.threads})
        finally:
            world.end()

    return wrapper


def _see_through(world: ThreadWorld, limit_s: float, case: Any) -> None:
    """Wait for the ranks, at most for so many seconds, and raise what they add up to."""
    with as_no_fault_of_the_test(case), threads_left_behind(world, case._testMethodName):
        reports = world.wait(limit_s, settings.DEADLOCK_S.value())
    report_stuck_threads(case, [thread.name for thread in world.running()])
    raise_verdict(case, judge(reports))
