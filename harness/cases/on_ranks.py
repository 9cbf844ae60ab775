"""`run_on_ranks`: run a plain function in every rank of a world, for scripts and notebooks.

The call runs as a test of a private class, so it reports failures exactly as a test does. The
function goes to the ranks, and the results come back, in files of the test's folder.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import cloudpickle

from harness.cases.classes import MultiProcessTestCase
from harness.cases.decorators.overrides import check_timeout
from harness.cases.process_ranks import ProcessRanks
from harness.model.returned import check_returned
from harness.model.spec import PROCESS, check_world_size

__unittest = True  # unittest leaves the frames of such modules out of its tracebacks

T = TypeVar("T")

_CALL, _VALUE = "call.pickle", "value.pickle"


def run_on_ranks(
    fn: Callable[..., T],
    world_size: int = 4,
    *,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    backend: str | None = "gloo",
    timeout_s: float | None = None,
    isolation: str = PROCESS,
) -> list[T]:
    """Call a function in every rank of a world of processes, and collect what it returns.

    The default process group is up while the function runs, and RANK, LOCAL_RANK and WORLD_SIZE are
    in the environment::

        def total(x):
            t = torch.tensor([x + dist.get_rank()])
            dist.all_reduce(t)
            return t.item()

        run_on_ranks(total, world_size=4, args=(10,))  # [46, 46, 46, 46]

    Args:
        fn: the function. cloudpickle sends it, its arguments and its results, so it may be defined
            in a script or a notebook, and may be a lambda or a closure.
        world_size: number of ranks.
        args, kwargs: its arguments, the same on every rank.
        backend: the process group's backend; None for no process group.
        timeout_s: time limit in seconds; by default the time limit of tests.
        isolation: "group" or "none" to reuse the ranks of earlier calls.

    Returns:
        the return values, by rank.

    Raises:
        RanksFailedError: an assertion failed in the function.
        RanksRaisedError, RanksDiedError, RanksTimedOutError, RanksDisagreeError: other errors;
            the message says which rank did what, like that of a test.
        unittest.SkipTest: if the function skips on every rank.
    """
    case = _Call()
    case.world_size = check_world_size(world_size, "run_on_ranks()")
    case.isolation = isolation
    if timeout_s is not None:
        case.timeout_s = check_timeout(timeout_s, f"run_on_ranks(timeout_s={timeout_s!r})")
    call = cloudpickle.dumps((fn, tuple(args), dict(kwargs or {}), backend))
    # setUp, the body and tearDown are called directly: a TestResult would swallow the exception.
    case.setUp()
    try:
        folder = Path(case.file_name).parent
        (folder / _CALL).write_bytes(call)
        case.runTest()
        return [
            pickle.loads((folder / f"{rank}.{_VALUE}").read_bytes()) for rank in range(world_size)
        ]
    finally:
        case.tearDown()
        case.doCleanups()


class _CallRanks(ProcessRanks):
    # Ranks that torchrun started may be on another host, which does not see the call's files.
    on_torchrun_ranks = False
    # The report must not suggest a command: a call has no name to select it by.
    has_command = False


class _Call(MultiProcessTestCase):
    """The call as a test."""

    __harness_ranks__ = _CallRanks

    def runTest(self) -> None:
        folder = Path(self.file_name).parent
        fn, args, kwargs, backend = pickle.loads((folder / _CALL).read_bytes())
        rank, size = str(self.rank), str(self.world_size)
        if backend is not None:
            self.init_process_group(backend)
        with mock.patch.dict(os.environ, RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=size):
            value = fn(*args, **kwargs)
        check_returned(value, fn)
        (folder / f"{self.rank}.{_VALUE}").write_bytes(cloudpickle.dumps(value))
