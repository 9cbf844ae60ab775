"""torch's process groups of threads, with every call checked against those of the peers.

torch's own (`torch.testing._internal.distributed.multi_threaded_pg`) carries the data.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from functools import wraps
from typing import Any, NamedTuple
from unittest import mock

import torch
import torch.distributed as dist
from torch._C import _distributed_c10d
from torch.testing._internal.distributed import multi_threaded_pg as torchs
from torch.utils import _pytree as pytree

from harness.diagnosis.snapshot import stack_of_caller
from harness.model.evidence import Group
from harness.ranks.thread_ledger import Call, Ledger


class _Op(NamedTuple):
    """How to read the call of one method of a process group.

    Attributes:
        name: the function of torch.distributed that ends there.
        tensors: position of the argument that the rank brings; None for no tensors.
        same_sizes: whether every rank must bring the same sizes.
        detail: the option that must be the same on every rank.
    """

    name: str
    tensors: int | None
    same_sizes: bool = False
    detail: str = ""


# By name of the method; torch has renamed some, so both names are here.
_OPS = {
    "allreduce": _Op("all_reduce", 0, True, "reduceOp"),
    "allreduce_coalesced": _Op("all_reduce_coalesced", 0, True, "reduceOp"),
    "broadcast": _Op("broadcast", 0, True, "rootRank"),
    "allgather": _Op("all_gather", 1),
    "all_gather_single": _Op("all_gather_into_tensor", 1),
    "_allgather_base": _Op("all_gather_into_tensor", 1),
    "all_gather_single_coalesced": _Op("all_gather_into_tensor_coalesced", 1),
    "allgather_into_tensor_coalesced": _Op("all_gather_into_tensor_coalesced", 1),
    "scatter": _Op("scatter", 0, False, "rootRank"),
    "gather": _Op("gather", 1, False, "rootRank"),
    "reduce_scatter": _Op("reduce_scatter", 1, True, "reduceOp"),
    "reduce_scatter_single": _Op("reduce_scatter_tensor", 1, True, "reduceOp"),
    "_reduce_scatter_base": _Op("reduce_scatter_tensor", 1, True, "reduceOp"),
    "reduce_scatter_single_coalesced": _Op("reduce_scatter_tensor_coalesced", 1, True, "reduceOp"),
    "reduce_scatter_tensor_coalesced": _Op("reduce_scatter_tensor_coalesced", 1, True, "reduceOp"),
    "alltoall": _Op("all_to_all", 1),
    "all_to_all_single": _Op("all_to_all_single", 1),
    "alltoall_base": _Op("all_to_all_single", 1),
    "barrier": _Op("barrier", None),
}


class ThreadedGroups:
    """Exchanges c10d's record of process groups for one that each thread has for itself."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self._store = _distributed_c10d.HashStore()
        self._undo = contextlib.ExitStack()

    def install(self) -> None:
        """From here to `uninstall`, threads may `join`. For the thread that starts the ranks."""
        isolate = getattr(_distributed_c10d, "_set_thread_isolation_mode", None)
        if isolate is not None:
            isolate(True)
            self._undo.callback(isolate, False)
        self._undo.callback(torchs.ProcessLocalGroup.reset)
        # autograd would otherwise run backward hooks, and their collectives, on its own thread.
        self._undo.enter_context(torch.autograd.set_multithreading_enabled(False))
        world = torchs.ThreadLocalWorld()
        self._undo.enter_context(mock.patch.object(dist.distributed_c10d, "_world", world))
        plugin = dist.Backend._plugins["THREADED"]._replace(creator_fn=_creator(self.ledger))
        self._undo.enter_context(mock.patch.dict(dist.Backend._plugins, {"THREADED": plugin}))

    def uninstall(self) -> None:
        """Undo `install`; a second call does nothing."""
        self._undo.close()

    @contextlib.contextmanager
    def joined(self, rank: int, world_size: int, timeout_s: float) -> Iterator[None]:
        """Have a default process group in the calling thread meanwhile, as this rank."""
        dist.init_process_group(
            "threaded",
            rank=rank,
            world_size=world_size,
            store=self._store,
            timeout=timedelta(seconds=timeout_s),
        )
        try:
            yield
        finally:
            if dist.is_initialized():  # the test may have destroyed it
                dist.destroy_process_group()

    @staticmethod
    def release() -> None:
        """End the threads that wait in a collective, or come to one from now on."""
        group = torchs.ProcessLocalGroup
        group._terminate.set()
        for collective in list(group._cur_coll_on_pgs.values()):
            for condition in (collective._start_cond, collective._done_cond):
                with condition:
                    condition.notify_all()


def _creator(ledger: Ledger) -> Callable[..., Any]:
    """What makes the process groups of one world; arguments as torch passes them."""

    class CheckedGroup(torchs.ProcessLocalGroup):
        """torch's group of threads, whose calls are written down and checked first."""

        def __init__(self, rank: int, size: int) -> None:
            super().__init__(rank, size)
            self.key: tuple[str, int] | None = None
            self.ranks: tuple[int, ...] = ()
            self._name = ""

        @property
        def pg_name(self) -> str:
            # torch still asks for the name of a group that it has just struck off.
            world: Any = self._world()
            self._name = world.pg_names.get(self, self._name)
            return self._name

    for method, op in _OPS.items():
        plain = getattr(torchs.ProcessLocalGroup, method, None)
        if plain is not None:
            setattr(CheckedGroup, method, _checked(plain, op, ledger))

    def create(prefix_store: Any, rank: int, world_size: int, timeout: timedelta) -> Any:
        # A rank goes on only when all others have the group too, as torch's creator sees to.
        barrier: Any = dist.distributed_c10d._store_based_barrier
        barrier(rank, prefix_store, "", world_size, timeout)
        return CheckedGroup(rank, world_size)

    return create


_inside = threading.local()


def _checked(plain: Callable[..., Any], op: _Op, ledger: Ledger) -> Callable[..., Any]:
    @wraps(plain)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        if getattr(_inside, "collective", False):
            return plain(self, *args, **kwargs)  # one that another one is made of
        if self.key is None:
            self.ranks = tuple(dist.get_process_group_ranks(self))
            group = Group(tuple(sorted(self.ranks)), str(getattr(self, "group_desc", "")))
            self.key = ledger.new_group(self.pg_name, self.ranks[self.rank()], group)
        call = _call(op, args, kwargs)
        entry = ledger.begin(self.key, self.ranks[self.rank()], call, stack_of_caller())
        _inside.collective = True
        try:
            result = plain(self, *args, **kwargs)
        finally:
            _inside.collective = False
        ledger.end(entry)
        return result

    return method


def _call(op: _Op, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    everything = (*args, *kwargs.values())
    tensors = [] if op.tensors is None else list(_tensors(everything[op.tensors]))
    options = everything[-1] if everything else None
    return Call(
        op.name,
        tuple(tuple(tensor.shape) for tensor in tensors),
        tuple(str(tensor.dtype).removeprefix("torch.") for tensor in tensors),
        _detail(getattr(options, op.detail, None)) if op.detail else "",
        op.same_sizes,
    )


def _tensors(value: Any) -> Iterable[torch.Tensor]:
    return (leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor))


def _detail(option: Any) -> str:
    """A root's number or a reduction, as text."""
    if option is None:
        return ""
    if isinstance(option, int):
        return f"root {option}"
    return str(getattr(option, "op", option)).rpartition(".")[2]
