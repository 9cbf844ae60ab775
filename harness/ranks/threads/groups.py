"""torch's process groups for threads, with each call checked against the calls of the peers.

torch's own class (`torch.testing._internal.distributed.multi_threaded_pg`, torch 2.13) moves the
data. It keeps the collectives in flight and the request to stop in the class, for the whole
process. Here each world has its own, so that a thread that outlives its test does not disturb the
next one. How members wait for each other is in `collectives`.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import wraps
from typing import Any
from unittest import mock

import torch.distributed as dist

# Imported here, in the main thread: the default arguments of its functions are the default group at
# import. If a rank imported it, all ranks would use that rank's group (torch 2.13).
from torch._C import _distributed_c10d
from torch.testing._internal.distributed import multi_threaded_pg

from harness.diagnosis.snapshot import stack_of_caller
from harness.diagnosis.waits import registered
from harness.model.communication import FULL, OFF, Call, group_key
from harness.model.evidence import Group, Waiting
from harness.ranks import this_rank
from harness.ranks.c10d_operators import regions_of
from harness.ranks.c10d_work import follow, wrapped_functions
from harness.ranks.call_recorder import CallRecorder
from harness.ranks.threads.collectives import WORKER, ThreadCollective, WorkFailedError
from harness.ranks.threads.group_calls import OPS, Op, call_of, tensors_of
from harness.ranks.threads.ledger import TERMINATED, Ledger

_numbers = itertools.count(1)


class ThreadedGroups:
    """The process groups of one world of threads.

    Args:
        audit: how closely the ranks record what they communicate; one of `AUDIT_LEVELS`.
    """

    def __init__(self, audit: str = OFF) -> None:
        self.audit = audit
        self.ledger = Ledger()
        self.store = _distributed_c10d.HashStore()
        #: Data that ranks pass to each other outside their groups, by name.
        self.handed_out: dict[str, bytes] = {}
        self._undo = contextlib.ExitStack()
        self._world: Any = None
        self._collectives: dict[int, ThreadCollective] = {}
        self._members: dict[int, int] = {}
        self._changed = threading.Condition()
        self._terminate = threading.Event()

    def install(self) -> None:
        """Let threads have process groups of their own until `uninstall`.

        c10d keeps its groups in one object for the process, `_world`. torch's `ThreadLocalWorld`
        keeps one for each thread.
        """
        isolate = getattr(_distributed_c10d, "_set_thread_isolation_mode", None)
        if isolate is not None:
            isolate(True)
            self._undo.callback(isolate, False)
        self._world = multi_threaded_pg.ThreadLocalWorld()
        self._patch(dist.distributed_c10d, "_world", self._world)
        group_class = multi_threaded_pg.ProcessLocalGroup
        self._patch(group_class, "_start_coll", staticmethod(_start_collective))
        # `ThreadCollective` ends itself. torch's methods call _end_coll() only if there was no
        # error, so after an error the group would keep the broken collective (torch 2.13).
        self._patch(group_class, "_end_coll", staticmethod(lambda *_: None))
        if self.audit == FULL:
            for owner, name, wrapped in wrapped_functions():
                self._patch(owner, name, wrapped)
        plugins = dist.Backend._plugins
        original = plugins["THREADED"]
        # With extended_api, torch passes the ranks of the group.
        plugins["THREADED"] = original._replace(creator_fn=_creator(self), extended_api=True)
        self._undo.callback(plugins.__setitem__, "THREADED", original)

    def _patch(self, owner: Any, name: str, value: Any) -> None:
        self._undo.enter_context(mock.patch.object(owner, name, value))

    def uninstall(self) -> None:
        """Undo `install`. Threads of this world that still run end at their next collective."""
        self.release()
        self._undo.close()

    @contextlib.contextmanager
    def joined(self, rank: int, world_size: int, timeout_s: float) -> Iterator[None]:
        """Create the default process group of the calling thread for the duration of the block."""
        dist.init_process_group(
            "threaded",
            rank=rank,
            world_size=world_size,
            store=self.store,
            timeout=timedelta(seconds=timeout_s),
        )
        try:
            yield
        finally:
            # The test may have destroyed the group. A thread that outlives its test finds the
            # `_world` of another test.
            if dist.distributed_c10d._world is self._world and dist.is_initialized():
                dist.destroy_process_group()

    def release(self) -> None:
        """End the threads that wait for others, and from now on those that would begin to."""
        self._terminate.set()
        with self._changed:
            self._changed.notify_all()
            collectives = list(self._collectives.values())
        for collective in collectives:
            collective.release()

    def check(self) -> None:
        """Raise SystemExit, as torch's collectives do, if the world must end."""
        if self._terminate.is_set():
            raise SystemExit(TERMINATED)

    def gather(self, prefix_store: Any, size: int, waiting: Waiting) -> int:
        """Wait until all members of a new group are here; return the number of the group.

        Args:
            prefix_store: a store of the members only. If the group is created again, it has the
                same store.
            size: the number of members.
            waiting: the call in which the members wait, with its timeout.
        """
        before = prefix_store.add("members", 1) - 1
        # The first member sets the number, in one atomic step. With two steps, a rank that is ended
        # between them would leave the others waiting in the store, where nothing can wake them.
        proposal = str(next(_numbers))
        number = int(prefix_store.compare_set(f"group {before // size}", "", proposal))

        def all_are_here() -> bool:
            return self._members[number] == size

        with self._changed:
            self._members[number] = self._members.get(number, 0) + 1
            self._changed.notify_all()
            with registered(waiting, all_are_here):
                complete = self._changed.wait_for(
                    lambda: all_are_here() or self._terminate.is_set(), waiting.timeout_s
                )
        self.check()
        if not complete:
            here = self._members[number]
            raise RuntimeError(
                f"only {here} of {size} ranks called {waiting.call} within {waiting.timeout_s:g} s"
            )
        return number

    def start_collective(self, work: Any, number: int, size: int, op: str) -> ThreadCollective:
        """Return the collective in flight in a group; if there is none, start one."""
        with self._changed:
            if number not in self._collectives:
                self._collectives[number] = ThreadCollective(
                    size, work, op, self._terminate.is_set, lambda: self._end_collective(number)
                )
            return self._collectives[number]

    def _end_collective(self, number: int) -> None:
        with self._changed:
            self._collectives.pop(number, None)


def _start_collective(work: Any, group: Any) -> ThreadCollective:
    _inside.has_started = True
    return group.groups.start_collective(work, group.number, group.size(), _inside.op)


def _creator(groups: ThreadedGroups) -> Callable[..., Any]:
    """Return the function with which torch's extended plugin creates groups of one world."""

    def create(backend_options: Any, options: Any) -> Any:
        size = backend_options.group_size
        # torch passes no ranks for the default group.
        ranks = tuple(backend_options.global_ranks_in_group)
        call = "new_group" if ranks else "init_process_group"
        timeout_s = backend_options.timeout.total_seconds()
        waiting = Waiting("rendezvous", call, ranks or tuple(range(size)), timeout_s)
        number = groups.gather(backend_options.store, size, waiting)
        return CheckedGroup(backend_options.group_rank, size, groups, number)

    return create


class CheckedGroup(multi_threaded_pg.ProcessLocalGroup):
    """torch's group for threads; it records and checks each call first."""

    def __init__(self, rank: int, size: int, groups: ThreadedGroups, number: int) -> None:
        super().__init__(rank, size)
        self.groups = groups
        self.number = number
        self._name = ""

    @property
    def pg_name(self) -> str:
        # torch still reads the name of a group that it has just removed from its record.
        self._name = self._record.pg_names.get(self, self._name)
        return self._name

    @property
    def members(self) -> tuple[int, ...]:
        """Return the global ranks of the members, in the order of their ranks in the group."""
        by_rank = sorted(self._record.pg_group_ranks[self].items(), key=lambda item: item[1])
        return tuple(global_rank for global_rank, _ in by_rank)

    @property
    def _record(self) -> Any:
        """Return c10d's record of the rank's groups, also in a thread that the rank has started."""
        return self._world()


class _Inside(threading.local):
    """The collective that the calling thread is in.

    Attributes:
        op: its name; empty if the thread is in none.
        has_started: whether its members wait for each other already.
    """

    op = ""
    has_started = False


_inside = _Inside()


def _checked(plain: Callable[..., Any], op: Op) -> Callable[..., Any]:
    signature = inspect.signature(plain)

    @wraps(plain)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        if _inside.op:
            return plain(self, *args, **kwargs)  # torch implements one collective with another
        self.groups.check()
        members = self.members
        group = Group(tuple(sorted(members)), str(getattr(self, "group_desc", "")))
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        arguments = list(bound.arguments.values())[1:]
        recorder, position = this_rank.call_recorder(), -1
        call = call_of(op, group_key(self.pg_name, members), arguments)
        if recorder is not None:
            recorder.in_world(self._record.default_pg)
            recorder.key_of_group(self.pg_name, members, group.description)
            is_root = call.root == self.rank()
            position = _record(recorder, op, call, arguments, is_root)
        ledger: Ledger = self.groups.ledger
        ledger.open(self.number, self.pg_name, group)
        entry = ledger.begin(self.number, members[self.rank()], call, stack_of_caller())
        _inside.op, _inside.has_started = op.name, False
        try:
            result = plain(self, *args, **kwargs)
        except Exception as error:
            ledger.end(entry)
            if recorder is not None:
                recorder.raised(position)
            shown = _error_for_test(error, call, members[WORKER])
            if shown is error:
                raise
            raise shown from None
        finally:
            _inside.op = ""
        ledger.end(entry)
        if recorder is not None and isinstance(result, _distributed_c10d.Work):
            follow(recorder, result, sys._getframe(1))
        return result

    return method


def _record(recorder: CallRecorder, op: Op, call: Call, arguments: list[Any], is_root: bool) -> int:
    """Record the call for the audit; return its position."""
    recorder.forget_fresh()
    gives, takes = tensors_of(op, arguments)
    is_async = bool(getattr(arguments[-1], "asyncOp", True)) if arguments else False
    only_reads = op.takes is not None or (op.name == "broadcast" and is_root)
    regions = regions_of(gives, takes, only_reads)
    return recorder.record(call, lambda: call, regions if is_async else (), is_async)


def _error_for_test(error: Exception, call: Call, worker: int) -> Exception:
    """Return the error that the test gets for an error in a collective.

    Args:
        error: the error.
        call: the rank's call.
        worker: the global rank that does the work.
    """
    if isinstance(error, WorkFailedError):
        return error.as_error(call.op, worker)
    if isinstance(error, NotImplementedError) and not _inside.has_started:
        return _unsupported(f"{call.op} with {call.reduction}" if call.reduction else call.op)
    return error  # an error of the work on this rank, or in the arguments


def _unsupported(what: str) -> NotImplementedError:
    return NotImplementedError(
        f"thread ranks do not support {what}: PyTorch's process group for threads does not "
        "implement it; use MultiProcessTestCase, whose ranks are processes"
    )


def _missing(name: str) -> Callable[..., Any]:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        raise _unsupported(name)

    return method


# Methods that torch's group for threads lacks (torch 2.13), and the function of torch.distributed
# that calls each. Without an override, torch looks for a C++ backend and raises "No backend type
# associated with device type cpu", which does not say what to do.
_MISSING = {
    "reduce": "reduce",
    "send": "send",
    "recv": "recv",
    "recv_anysource": "recv",
    "_start_coalescing": "batch_isend_irecv",
}
for _method, _name in _MISSING.items():
    if _method not in vars(multi_threaded_pg.ProcessLocalGroup):
        setattr(CheckedGroup, _method, _missing(_name))

for _method, _op in OPS.items():
    if _plain := vars(multi_threaded_pg.ProcessLocalGroup).get(_method):
        setattr(CheckedGroup, _method, _checked(_plain, _op))
