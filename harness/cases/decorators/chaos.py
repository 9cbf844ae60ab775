"""Fault injection: kill, stop or delay a rank at one of its collectives.

For tests of fault tolerance. The injected fault does not fail the test; the test asserts what the
surviving ranks must see.

The rank announces the fault to the parent (`ProcessRank.report_sabotage`) before it sends itself
the signal. So the parent knows, whenever the rank disappears, that this death was expected.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar

from torch.utils._python_dispatch import TorchDispatchMode

from harness.cases.ranks_of_test import ranks_of
from harness.model.errors import ChaosError, SettingError
from harness.ranks import this_rank

__unittest = True  # unittest leaves the frames of such modules out of its tracebacks

T = TypeVar("T", bound=Callable[..., Any])
Errors = type[BaseException] | tuple[type[BaseException], ...]

# The dispatcher's namespaces of collectives, and operators there that move no data (torch 2.13).
_NAMESPACES = frozenset({"c10d", "_c10d_functional"})
_NO_COLLECTIVES = frozenset({"wait_tensor", "_wrap_tensor_autograd"})


@dataclass(frozen=True)
class _Fault:
    """A fault to inject.

    Attributes:
        verb: "kill", "stop" or "delay".
        rank: the rank that gets the fault.
        at: inject it just before the collective with this number, counted from 1.
        seconds: the length of a delay.
    """

    verb: str
    rank: int
    at: int
    seconds: float = 0.0

    def __post_init__(self) -> None:
        for name, least in (("rank", 0), ("at", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise SettingError(
                    f"@{self.verb}_rank({name}={value!r}): must be a whole number of at least "
                    f"{least}"
                )


def kill_rank(
    rank: int, at: int, *, survivors_raise: Errors | None = None, match: str = ""
) -> Callable[[T], T]:
    """Decorator: end a rank by SIGKILL just before its `at`-th collective.

    The count is over all process groups, and includes sends and receives. It follows torch's
    dispatcher: the collectives of DDP's backward pass count, and `all_gather_object` counts twice.

    Args:
        rank: the rank to kill.
        at: the number of the collective, from 1.
        survivors_raise: the body must raise this error, or one of these, on every other rank. None
            if the body must handle the loss and pass there.
        match: a regular expression to search for in the error's message.

    Raises:
        SettingError: if rank or number is not valid.

    Raises (in the rank):
        ChaosError: if the rank calls fewer collectives: the fault was never injected.
    """
    return _decorator(_Fault("kill", rank, at), survivors_raise, match)


def stop_rank(
    rank: int, at: int, *, survivors_raise: Errors | None = None, match: str = ""
) -> Callable[[T], T]:
    """Decorator: stop a rank (SIGSTOP) before its `at`-th collective, until the others are done.

    The rank keeps its connections open but no longer responds, like a host that lost its network.
    Arguments and errors are those of `kill_rank`.
    """
    return _decorator(_Fault("stop", rank, at), survivors_raise, match)


def delay_rank(
    rank: int,
    at: int,
    seconds: float,
    *,
    survivors_raise: Errors | None = None,
    match: str = "",
) -> Callable[[T], T]:
    """Decorator: delay a rank by `seconds` before its `at`-th collective.

    The rank counts as one of the survivors. Other arguments and errors are those of `kill_rank`.
    """
    return _decorator(_Fault("delay", rank, at, seconds), survivors_raise, match)


def _decorator(fault: _Fault, survivors_raise: Errors | None, match: str) -> Callable[[T], T]:
    def decorate(test: T) -> T:
        @wraps(test)
        def with_fault(self: Any, *args: Any, **kwargs: Any) -> Any:
            if ranks_of(self).are_threads:
                raise SettingError(f"@{fault.verb}_rank() needs ranks that are processes")
            # Nobody could report that the test has passed.
            if self.world_size == 1 and fault.verb != "delay":
                raise SettingError(
                    f"@{fault.verb}_rank(): in a world of one, nobody is left to pass"
                )
            if fault.rank >= self.world_size:
                raise SettingError(
                    f"@{fault.verb}_rank(rank={fault.rank}): the world has {self.world_size} ranks"
                )
            with contextlib.ExitStack() as stack:
                # A rank that is killed or stopped cannot raise; a delayed one counts as survivor.
                is_target = self.rank == fault.rank
                if survivors_raise is not None and not (is_target and fault.verb != "delay"):
                    stack.enter_context(self.assertRaisesRegex(survivors_raise, match))
                if is_target:
                    stack.enter_context(_injecting(fault))
                return test(self, *args, **kwargs)

        return with_fault  # type: ignore[return-value]

    return decorate


@contextlib.contextmanager
def _injecting(fault: _Fault) -> Iterator[None]:
    # Only in the rank that gets the fault: a dispatch mode slows every operation down.
    counter = _CollectiveCounter(fault)
    with counter:
        yield
    if counter.count < fault.at:
        raise ChaosError(
            f"rank {fault.rank} should have been hit by @{fault.verb}_rank at its collective "
            f"{fault.at}, but it made only {counter.count}"
        )


class _CollectiveCounter(TorchDispatchMode):
    """Counts the collectives of this rank, and injects the fault before the given one.

    A dispatch mode, because it also sees collectives that torch calls itself, as DDP does.
    """

    def __init__(self, fault: _Fault) -> None:
        super().__init__()
        self.count = 0
        self._fault = fault

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace in _NAMESPACES and func._opname not in _NO_COLLECTIVES:
            self.count += 1
            if self.count == self._fault.at:
                _inject(self._fault)
        return func(*args, **(kwargs or {}))


def _inject(fault: _Fault) -> None:
    if fault.verb == "delay":
        time.sleep(fault.seconds)
        return
    rank = this_rank.of_process()
    assert rank is not None  # the decorators refuse ranks that are threads
    rank.report_sabotage(fault.verb)
    os.kill(os.getpid(), signal.SIGKILL if fault.verb == "kill" else signal.SIGSTOP)
