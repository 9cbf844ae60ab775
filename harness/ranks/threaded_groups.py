"""torch's process groups of threads, with every call checked against those of the peers.

torch's own (`torch.testing._internal.distributed.multi_threaded_pg`) carries the data. What it
keeps for the whole process (the collectives under way, the sign to stop) is kept for each world
here, so that a thread which outlives its test does not disturb the next one.
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
from harness.model.evidence import Group
from harness.ranks.thread_ledger import TERMINATED, Call, Ledger

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
        self._collectives: dict[int, Any] = {}
        self._members: dict[int, int] = {}
        self._changed = threading.Condition()
        # torch's collectives look for it under this name.
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
        self._patch(torchs.ProcessLocalGroup, "_end_coll", staticmethod(_end_collective))
        plugins = dist.Backend._plugins
        torchs_plugin = plugins["THREADED"]
        plugins["THREADED"] = torchs_plugin._replace(creator_fn=_creator(self))
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
            for condition in (collective._start_cond, collective._done_cond):
                with condition:
                    condition.notify_all()

    def check(self) -> None:
        """Raise SystemExit, as torch's collectives do, if the world is to end."""
        if self._terminate.is_set():
            raise SystemExit(TERMINATED)

    def meet(self, prefix_store: Any, size: int, timeout_s: float) -> int:
        """Wait until all members of a new group are here; returns the number of the group.

        Args:
            prefix_store: a store that the members have, and nobody else. A group that is made again
                has the same one.
            size: how many members there are.
            timeout_s: how long to wait.
        """
        before = prefix_store.add("members", 1) - 1
        name = f"group {before // size}"
        if before % size == 0:
            prefix_store.set(name, str(next(_numbers)))
        number = int(prefix_store.get(name))
        with self._changed:
            self._members[number] = self._members.get(number, 0) + 1
            self._changed.notify_all()
            complete = self._changed.wait_for(
                lambda: self._members[number] == size or self._terminate.is_set(), timeout_s
            )
        self.check()
        if not complete:
            here = self._members[number]
            raise RuntimeError(f"{here} of {size} ranks came to a new group within {timeout_s:g} s")
        return number

    def start_collective(self, collective: Any, number: int, size: int) -> Any:
        """The collective that is under way in a group, if need be this one."""
        with self._changed:
            if number not in self._collectives:
                self._collectives[number] = torchs.Collective(size, collective, self)
            return self._collectives[number]

    def end_collective(self, collective: Any, number: int) -> None:
        """A member has done its part; the first one to say so makes room for the next."""
        with self._changed:
            if self._collectives.get(number) is collective:
                del self._collectives[number]


def _start_collective(collective: Any, group: Any) -> Any:
    return group.groups.start_collective(collective, group.number, group.size())


def _end_collective(collective: Any, group: Any) -> None:
    group.groups.end_collective(collective, group.number)


def _creator(groups: ThreadedGroups) -> Callable[..., Any]:
    """What makes the process groups of one world; arguments as torch passes them."""

    def create(prefix_store: Any, rank: int, world_size: int, timeout: timedelta) -> Any:
        number = groups.meet(prefix_store, world_size, timeout.total_seconds())
        return CheckedGroup(rank, world_size, groups, number)

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


_inside = threading.local()


def _checked(plain: Callable[..., Any], op: _Op) -> Callable[..., Any]:
    signature = inspect.signature(plain)

    @wraps(plain)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        if getattr(_inside, "collective", False):
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
        _inside.collective = True
        try:
            result = plain(self, *args, **kwargs)
        except Exception:
            ledger.end(entry)
            raise
        finally:
            _inside.collective = False
        ledger.end(entry)
        return result

    return method


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
