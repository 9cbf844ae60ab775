"""Faults on purpose: a rank is killed, stopped or delayed at one of its collectives.

For tests of fault tolerance: what is done to the rank counts as meant, and the test says what the
ranks that survive must see.
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
from harness.ranks.child.rank_pipe import RankPipe

__unittest = True  # unittest leaves the frames of such modules out of its tracebacks

T = TypeVar("T", bound=Callable[..., Any])
Errors = type[BaseException] | tuple[type[BaseException], ...]

# As torch's dispatcher names them; these of them move no data.
_NAMESPACES = frozenset({"c10d", "_c10d_functional"})
_NO_COLLECTIVES = frozenset({"wait_tensor", "_wrap_tensor_autograd"})


@dataclass(frozen=True)
class _Deed:
    """What is done to a rank.

    Attributes:
        verb: "kill", "stop" or "delay".
        rank: whom.
        at: the number of the collective, from 1, before which it is done.
        seconds: how long a delay is.
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

    Collectives are counted as torch's dispatcher sees them, over all process groups, sends and
    receives included; those of DDP's backward pass count, and `all_gather_object` counts twice.

    Args:
        rank: which rank.
        at: the number of the collective, from 1.
        survivors_raise: the error, or errors, one of which the body must raise on every other
            rank. None if there the body must pass, having seen to the loss itself.
        match: a regular expression that the error's message must match somewhere.

    Raises:
        SettingError: if rank or number cannot be.

    Raises (in the rank):
        ChaosError: if it does not come to so many collectives: the test tests nothing then.
    """
    return _decorator(_Deed("kill", rank, at), survivors_raise, match)


def stop_rank(
    rank: int, at: int, *, survivors_raise: Errors | None = None, match: str = ""
) -> Callable[[T], T]:
    """Decorator: stop a rank (SIGSTOP) before its `at`-th collective, until the others are done.

    It keeps its connections open and says nothing more, as a host that has lost its network does.
    Arguments and errors are those of `kill_rank`.
    """
    return _decorator(_Deed("stop", rank, at), survivors_raise, match)


def delay_rank(
    rank: int,
    at: int,
    seconds: float,
    *,
    survivors_raise: Errors | None = None,
    match: str = "",
) -> Callable[[T], T]:
    """Decorator: have a rank come late, by so many seconds, to its `at`-th collective.

    The rank counts as one of the survivors. Other arguments and errors are those of `kill_rank`.
    """
    return _decorator(_Deed("delay", rank, at, seconds), survivors_raise, match)


def _decorator(deed: _Deed, survivors_raise: Errors | None, match: str) -> Callable[[T], T]:
    def decorate(test: T) -> T:
        @wraps(test)
        def in_chaos(self: Any, *args: Any, **kwargs: Any) -> Any:
            if ranks_of(self).are_threads:
                raise SettingError(f"@{deed.verb}_rank() needs ranks that are processes")
            if self.world_size == 1 and deed.verb != "delay":
                raise SettingError(
                    f"@{deed.verb}_rank(): in a world of one, nobody is left to pass"
                )
            if deed.rank >= self.world_size:
                raise SettingError(
                    f"@{deed.verb}_rank(rank={deed.rank}): the world has {self.world_size} ranks"
                )
            with contextlib.ExitStack() as stack:
                is_victim = self.rank == deed.rank
                if survivors_raise is not None and not (is_victim and deed.verb != "delay"):
                    stack.enter_context(self.assertRaisesRegex(survivors_raise, match))
                if is_victim:
                    stack.enter_context(_doing(deed))
                return test(self, *args, **kwargs)

        return in_chaos  # type: ignore[return-value]

    return decorate


@contextlib.contextmanager
def _doing(deed: _Deed) -> Iterator[None]:
    counter = _Counter(deed)
    with counter:
        yield
    if counter.count < deed.at:
        raise ChaosError(
            f"rank {deed.rank} should have been hit by @{deed.verb}_rank at its collective "
            f"{deed.at}, but it made only {counter.count}"
        )


class _Counter(TorchDispatchMode):
    """Counts the collectives of this rank, and does the deed when its time has come."""

    def __init__(self, deed: _Deed) -> None:
        super().__init__()
        self.count = 0
        self._deed = deed

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace in _NAMESPACES and func._opname not in _NO_COLLECTIVES:
            self.count += 1
            if self.count == self._deed.at:
                _do(self._deed)
        return func(*args, **(kwargs or {}))


def _do(deed: _Deed) -> None:
    if deed.verb == "delay":
        time.sleep(deed.seconds)
        return
    pipe = this_rank.current()
    assert isinstance(pipe, RankPipe)  # the decorators refuse ranks that are threads
    pipe.sabotage(deed.verb)
    os.kill(os.getpid(), signal.SIGKILL if deed.verb == "kill" else signal.SIGSTOP)
