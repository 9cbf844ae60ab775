"""torch's process groups of threads, with every call checked against those of the peers.

torch's own (`torch.testing._internal.distributed.multi_threaded_pg`) knows how to move the data.
What it keeps for the whole process (the collectives in flight, the request to stop) is kept for
each world here, so that a thread that outlives its test does not disturb the next one. How members
wait for each other is in `thread_collectives`.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from functools import wraps
from typing import Any, NamedTuple
from unittest import mock

import torch
import torch.distributed as dist

# Its functions have the default group of the moment of their import as default argument, which in a
# rank would be that rank's own.
import torch.distributed.nn.functional
from torch._C import _distributed_c10d
from torch.testing._internal.distributed import multi_threaded_pg as torchs
from torch.utils import _pytree as pytree

from harness.diagnosis.snapshot import stack_of_caller
from harness.diagnosis.waits import registered
from harness.model.evidence import Group, Waiting
from harness.ranks.threads.collectives import WORKER, ThreadCollective, WorkFailedError
from harness.ranks.threads.ledger import TERMINATED, Call, Ledger

_numbers = itertools.count(1)


class _Op(NamedTuple):
    """How to read the call of one method of a process group.

    Attributes:
        name: the function of torch.distributed that ends there.
        tensors: number of the argument that the rank brings; None for no tensors.
        same: what of the tensors' shape must be the same on every rank: "size", "numel" or "".
        detail: the option that must be the same on every rank.
    """

    name: str
    tensors: int | None
    same: str = ""
    detail: str = ""


# By name of the method. Some have other names in older versions of torch; both are here.
_OPS = {
    "allreduce": _Op("all_reduce", 0, "size", "reduceOp"),
    "allreduce_coalesced": _Op("all_reduce_coalesced", 0, "size", "reduceOp"),
    "broadcast": _Op("broadcast", 0, "numel", "rootRank"),
    "allgather": _Op("all_gather", 1),
    "all_gather_single": _Op("all_gather_single", 1),
    "_allgather_base": _Op("all_gather_into_tensor", 1),
    "all_gather_single_coalesced": _Op("all_gather_single_coalesced", 1),
    "allgather_into_tensor_coalesced": _Op("all_gather_into_tensor_coalesced", 1),
    "scatter": _Op("scatter", 0, "", "rootRank"),
    "gather": _Op("gather", 1, "", "rootRank"),
    "reduce_scatter": _Op("reduce_scatter", 1, "size", "reduceOp"),
    "reduce_scatter_single": _Op("reduce_scatter_single", 1, "size", "reduceOp"),
    "_reduce_scatter_base": _Op("reduce_scatter_tensor", 1, "size", "reduceOp"),
    "reduce_scatter_single_coalesced": _Op(
        "reduce_scatter_single_coalesced", 1, "size", "reduceOp"
    ),
    "reduce_scatter_tensor_coalesced": _Op(
        "reduce_scatter_tensor_coalesced", 1, "size", "reduceOp"
    ),
    "alltoall": _Op("all_to_all", 1),
    "all_to_all_single": _Op("all_to_all_single", 1),
    "alltoall_base": _Op("all_to_all_single", 1),
    "barrier": _Op("barrier", None),
}


class ThreadedGroups:
    """The process groups of one world of threads."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.store = _distributed_c10d.HashStore()
        #: What ranks give each other beside their groups, by name.
        self.handed_out: dict[str, bytes] = {}
        self._undo = contextlib.ExitStack()
        self._world: Any = None
        self._collectives: dict[int, ThreadCollective] = {}
        self._members: dict[int, int] = {}
        self._changed = threading.Condition()
        self._terminate = threading.Event()

    def install(self) -> None:
        """From here to `uninstall`, threads may join: c10d keeps its record by thread."""
        isolate = getattr(_distributed_c10d, "_set_thread_isolation_mode", None)
        if isolate is not None:
            isolate(True)
            self._undo.callback(isolate, False)
        self._world = torchs.ThreadLocalWorld()
        self._patch(dist.distributed_c10d, "_world", self._world)
        self._patch(torchs.ProcessLocalGroup, "_start_coll", staticmethod(_start_collective))
        # A collective ends by itself: an error in torch's methods would skip this call.
        self._patch(torchs.ProcessLocalGroup, "_end_coll", staticmethod(lambda *_: None))
        plugins = dist.Backend._plugins
        torchs_plugin = plugins["THREADED"]
        # With the extended arguments, torch says which ranks the group has.
        plugins["THREADED"] = torchs_plugin._replace(creator_fn=_creator(self), extended_api=True)
        self._undo.callback(plugins.__setitem__, "THREADED", torchs_plugin)

    def _patch(self, owner: Any, name: str, value: Any) -> None:
        self._undo.enter_context(mock.patch.object(owner, name, value))

    def uninstall(self) -> None:
        """Undo `install`. Threads of this world that still run come to an end at a collective."""
        self.release()
        self._undo.close()

    @contextlib.contextmanager
    def joined(self, rank: int, world_size: int, timeout_s: float) -> Iterator[None]:
        """Have a default process group in the calling thread meanwhile, as this rank."""
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
            # The test may have destroyed it; a thread that was left behind finds another record.
            if dist.distributed_c10d._world is self._world and dist.is_initialized():
                dist.destroy_process_group()

    def release(self) -> None:
        """End the threads that wait for others, or come to where they would, from now on."""
        self._terminate.set()
        with self._changed:
            self._changed.notify_all()
            collectives = list(self._collectives.values())
        for collective in collectives:
            collective.release()

    def check(self) -> None:
        """Raise SystemExit, as torch's collectives do, if the world is to end."""
        if self._terminate.is_set():
            raise SystemExit(TERMINATED)

    def gather(self, prefix_store: Any, size: int, waiting: Waiting) -> int:
        """Wait until all members of a new group are here; return the number of the group.

        Args:
            prefix_store: a store that the members have, and nobody else. A group that is made again
                has the same one.
            size: how many members there are.
            waiting: what each of them waits for, and how long.
        """
        before = prefix_store.add("members", 1) - 1
        # Whoever is first sets the number, in one step: a rank that is ended in between would leave
        # the others waiting in the store, where nothing can wake them.
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
                f"{here} of {size} ranks came to {waiting.call} within {waiting.timeout_s:g} s"
            )
        return number

    def start_collective(self, work: Any, number: int, size: int, op: str) -> ThreadCollective:
        """Return the collective in flight in a group; if there is none, one for this work."""
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
    """Return what makes the process groups of one world, called as torch calls extended plugins."""

    def create(how: Any, options: Any) -> Any:
        size = how.group_size
        # torch names no ranks for the default group.
        peers = tuple(how.global_ranks_in_group) or tuple(range(size))
        call = "new_group" if how.global_ranks_in_group else "init_process_group"
        waiting = Waiting("rendezvous", call, peers, how.timeout.total_seconds())
        return CheckedGroup(how.group_rank, size, groups, groups.gather(how.store, size, waiting))

    return create


class CheckedGroup(torchs.ProcessLocalGroup):
    """torch's group of threads, whose calls are written down and checked first."""

    def __init__(self, rank: int, size: int, groups: ThreadedGroups, number: int) -> None:
        super().__init__(rank, size)
        self.groups = groups
        self.number = number
        self._name = ""

    @property
    def pg_name(self) -> str:
        # torch still asks for the name of a group that it has just struck off.
        self._name = self._record.pg_names.get(self, self._name)
        return self._name

    @property
    def members(self) -> tuple[int, ...]:
        """Their ranks in the world, by their rank in the group."""
        by_rank = sorted(self._record.pg_group_ranks[self].items(), key=lambda item: item[1])
        return tuple(in_world for in_world, _ in by_rank)

    @property
    def _record(self) -> Any:
        """c10d's record of the rank, also for another thread that it has started."""
        return self._world()


class _Inside(threading.local):
    """The collective that the calling thread is in.

    Attributes:
        op: its name; empty outside.
        has_started: whether the members have begun to wait for each other.
    """

    op = ""
    has_started = False


_inside = _Inside()


def _checked(plain: Callable[..., Any], op: _Op) -> Callable[..., Any]:
    signature = inspect.signature(plain)

    @wraps(plain)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        if _inside.op:
            return plain(self, *args, **kwargs)  # one that another one is made of
        self.groups.check()
        members = self.members
        group = Group(tuple(sorted(members)), str(getattr(self, "group_desc", "")))
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        call = _call(op, list(bound.arguments.values())[1:])
        ledger: Ledger = self.groups.ledger
        ledger.open(self.number, self.pg_name, group)
        entry = ledger.begin(self.number, members[self.rank()], call, stack_of_caller())
        _inside.op, _inside.has_started = op.name, False
        try:
            result = plain(self, *args, **kwargs)
        except Exception as error:
            ledger.end(entry)
            told = _told(error, call, members[WORKER])
            if told is error:
                raise
            raise told from None
        finally:
            _inside.op = ""
        ledger.end(entry)
        return result

    return method


def _told(error: Exception, call: Call, worker: int) -> Exception:
    """What the test is to see of an error in a collective, whose work the rank `worker` does."""
    if isinstance(error, WorkFailedError):
        return error.as_error(call.op, worker)
    if isinstance(error, NotImplementedError) and not _inside.has_started:
        return _unsupported(f"{call.op} with {call.detail}" if call.detail else call.op)
    return error  # of the work itself, or of the arguments


def _unsupported(what: str) -> NotImplementedError:
    return NotImplementedError(
        f"thread ranks do not support {what}: PyTorch's process group of threads lacks it; use "
        "MultiProcessTestCase, whose ranks are processes"
    )


def _missing(name: str) -> Callable[..., Any]:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        raise _unsupported(name)

    return method


# Methods that torch's group of threads does not have (torch 2.13), and the function of
# torch.distributed that calls each. Without these, torch looks for a C++ backend and says "No
# backend type associated with device type cpu".
_MISSING = {
    "reduce": "reduce",
    "send": "send",
    "recv": "recv",
    "recv_anysource": "recv",
    "_start_coalescing": "batch_isend_irecv",
}
for _method, _name in _MISSING.items():
    if _method not in vars(torchs.ProcessLocalGroup):
        setattr(CheckedGroup, _method, _missing(_name))

for _method, _op in _OPS.items():
    if _method in vars(torchs.ProcessLocalGroup):
        setattr(CheckedGroup, _method, _checked(vars(torchs.ProcessLocalGroup)[_method], _op))


def _call(op: _Op, arguments: list[Any]) -> Call:
    tensors = [] if op.tensors is None else list(_tensors(arguments[op.tensors]))
    sizes = tuple(tuple(tensor.shape) for tensor in tensors)
    numels = tuple((tensor.numel(),) for tensor in tensors)
    return Call(
        op.name,
        sizes,
        tuple(str(tensor.dtype).removeprefix("torch.") for tensor in tensors),
        _detail(getattr(arguments[-1], op.detail)) if op.detail else "",
        {"size": sizes, "numel": numels}.get(op.same, ()),
    )


def _tensors(value: Any) -> Iterable[torch.Tensor]:
    return (leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor))


def _detail(option: Any) -> str:
    """A root's number or a reduction, as text."""
    if isinstance(option, int):
        return f"root {option}"
    return str(getattr(option, "op", option)).rpartition(".")[2]
