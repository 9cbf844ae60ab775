"""See every operation of c10d that this process issues, and every wait for one.

torch's Python API, DDP's reducer (C++) and functional collectives (C++) all call the operators of
the namespace `c10d`. A kernel for the dispatch key BackendSelect sees each of these calls first:
the key is in every call's set, whatever the tensors are, and no operator of c10d has a kernel there
(torch 2.6 to 2.15). It records the call and passes it on to the backend. Calls of a backend's own
methods, which only tests of backends make, are not seen.

Operators return the Work of C++. So that a recorder knows who waits for it, the methods of
`ProcessGroup` that return a Work, and those of `Work` that wait, are wrapped.

Everything is installed once per process, in the fork server if possible. It does nothing unless the
calling thread belongs to a rank that records its calls. Ranks that are threads have process groups
of their own (`harness/ranks/threads/groups.py`); for them, only the waits are wrapped, and only
while they run.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Any

from harness.diagnosis.sources import HARNESS, is_torch
from harness.model.communication import WORLD, Call, Sizes
from harness.ranks import this_rank
from harness.ranks.call_recorder import CallRecorder, recorder_of_work, user_place
from harness.ranks.regions import Region, region_of

# The functions of torch.distributed that end at an operator, where its name is another.
_NAMES = {
    "allreduce": "all_reduce",
    "allreduce_coalesced": "all_reduce_coalesced",
    "allgather": "all_gather",
    "_allgather_base": "all_gather_into_tensor",
    "allgather_coalesced": "all_gather_coalesced",
    "allgather_into_tensor_coalesced": "all_gather_into_tensor_coalesced",
    "_reduce_scatter_base": "reduce_scatter_tensor",
    "alltoall": "all_to_all",
    "alltoall_base": "all_to_all_single",
    "recv_any_source": "recv",
}
# The arguments of the operators, by name in their schemas (torch 2.6 to 2.15).
_GIVES = frozenset({"input_tensors", "input_tensor", "input_list", "inputs", "input"})
_TAKES = frozenset({"output_tensors", "output_tensor", "output_lists", "outputs", "output"})
_BOTH = frozenset({"tensors"})

_WAITS = (
    "wait",
    "synchronize",
    "get_future",
    "get_future_result",
    "result",
    "block_current_stream",
)
# These tell whether it has completed; only "yes" counts as having waited.
_LOOKS = ("is_completed", "is_success")

_library: Any = None


def install() -> bool:
    """Install the kernels and wrappers in this process; return whether torch allows it."""
    global _library
    if _library is not None:
        return True
    try:
        import torch
        from torch._C import _distributed_c10d as c10d

        library = torch.library.Library("c10d", "IMPL")
        for operator in _operators():
            reader = _Reader(operator)
            if reader.process_group is not None:
                name = operator._schema.name.partition("::")[2]
                kernel = _kernel(operator, reader)
                library.impl(name, kernel, "BackendSelect", with_keyset=True)
    except (ImportError, AttributeError, RuntimeError, TypeError):
        return False
    _library = library
    _wrap_methods(c10d)
    return True


def recorder_of_caller() -> CallRecorder | None:
    """Return the recorder of the rank that the calling thread belongs to, if it records."""
    rank = this_rank.find()
    return None if rank is None else rank.calls


# The operators of c10d that communicate (torch 2.6 to 2.15). To find them by their namespace takes
# torch 15 ms; a self-test does so.
OPERATORS = (
    "_allgather_base_",
    "_reduce_scatter_base_",
    "allgather_",
    "allgather_coalesced_",
    "allgather_into_tensor_coalesced_",
    "allreduce_",
    "allreduce_coalesced_",
    "alltoall_",
    "alltoall_base_",
    "barrier",
    "broadcast_",
    "gather_",
    "monitored_barrier_",
    "recv_",
    "recv_any_source_",
    "reduce_",
    "reduce_scatter_",
    "reduce_scatter_tensor_coalesced_",
    "scatter_",
    "send",
)


def _operators() -> Iterator[Any]:
    import torch

    for name in OPERATORS:
        packet = getattr(torch.ops.c10d, name, None)
        if packet is not None:
            yield packet.default


class _Reader:
    """Reads the arguments of one operator.

    Attributes:
        op: the function of torch.distributed.
        process_group: the number of the argument; None if the operator has none.
        is_in_place: whether it may write to the tensors that the rank gives.
    """

    def __init__(self, operator: Any) -> None:
        schema = operator._schema
        name = schema.name.partition("::")[2].removesuffix("_")
        self.op = _NAMES.get(name, name)
        numbers = {argument.name: i for i, argument in enumerate(schema.arguments)}
        self.process_group = numbers.get("process_group")
        self._root = numbers.get("root_rank")
        self._reduction = numbers.get("reduce_op")
        self._peer = numbers.get("dst", numbers.get("src"))
        self._tag = numbers.get("tag")
        self._async = numbers.get("async_op")
        self._gives_splits = numbers.get("input_split_sizes")
        self._takes_splits = numbers.get("output_split_sizes")
        self._gives = _number(numbers, _GIVES | _BOTH) if self.op != "recv" else None
        self._takes = _number(numbers, _TAKES if self.op != "recv" else _BOTH)
        self.is_in_place = self.op not in {"send", "recv"} and not _BOTH.isdisjoint(numbers)

    def is_async(self, args: tuple[Any, ...]) -> bool:
        """Whether the caller has to wait for it; torch before 2.8 does not say, so it may."""
        return True if self._async is None else bool(_argument(args, self._async, True))

    def gives(self, args: tuple[Any, ...]) -> list[Any]:
        return [] if self._gives is None else _tensors(args[self._gives])

    def takes(self, args: tuple[Any, ...]) -> list[Any]:
        return [] if self._takes is None else _tensors(args[self._takes])

    def key(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return everything but tensors, group and place, hashable: the arguments of `call`."""
        return (
            _reduction(_argument(args, self._reduction, None)),
            _argument(args, self._root, None),
            _argument(args, self._peer, None),
            _argument(args, self._tag, 0),
            tuple(_argument(args, self._gives_splits, ())),
            tuple(_argument(args, self._takes_splits, ())),
        )

    def regions(self, gives: list[Any], takes: list[Any], is_root: bool | None) -> list[Region]:
        """Return the memory that the operation uses until somebody waits for it."""
        only_reads = not self.is_in_place or (self.op == "broadcast" and is_root is True)
        return regions_of(gives, takes, only_reads)


def regions_of(gives: list[Any], takes: list[Any], only_reads: bool) -> list[Region]:
    """Return the memory of tensors that an operation uses.

    Args:
        gives: the tensors that the rank contributes.
        takes: those that it receives into.
        only_reads: whether the operation only reads the first ones.
    """
    regions = [region_of(tensor, only_reads) for tensor in gives]
    regions += [region_of(tensor, False) for tensor in takes]
    return [region for region in regions if region is not None]


def _number(numbers: dict[str, int], names: Iterable[str]) -> int | None:
    return next((numbers[name] for name in names if name in numbers), None)


def _argument(args: tuple[Any, ...], number: int | None, default: Any) -> Any:
    # The dispatcher leaves out trailing arguments that have their default value.
    return default if number is None or number >= len(args) else args[number]


def _tensors(value: Any) -> list[Any]:
    if isinstance(value, list | tuple):
        return [tensor for item in value for tensor in _tensors(item)]
    return [value]


def _sizes(tensors: list[Any]) -> Sizes:
    return tuple(tuple(tensor.shape) for tensor in tensors)


def _dtypes(tensors: list[Any]) -> tuple[Any, ...]:
    return tuple(tensor.dtype for tensor in tensors)


@functools.cache
def _dtype_name(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")


def _reduction(boxed: Any) -> str:
    if boxed is None:
        return ""
    return _reductions().get(boxed.op(), "")


@functools.cache
def _reductions() -> dict[int, str]:
    from torch._C._distributed_c10d import ReduceOp

    return {member.value: name for name, member in ReduceOp.RedOpType.__members__.items()}


# Calls


def _kernel(operator: Any, reader: _Reader) -> Callable[..., Any]:
    import torch

    select = torch._C.DispatchKey.BackendSelect
    redispatch = operator.redispatch

    def kernel(keys: Any, *args: Any) -> Any:
        recorder = recorder_of_caller()
        if recorder is None:
            return redispatch(keys.remove(select), *args)
        position = _record(recorder, reader, args, sys._getframe(1))
        try:
            result = redispatch(keys.remove(select), *args)
        except BaseException:
            recorder.raised(position)
            raise
        return result

    return kernel


def _record(recorder: CallRecorder, reader: _Reader, args: tuple[Any, ...], frame: Any) -> int:
    group, rank_in_group = _group_of(recorder, args[reader.process_group or 0])
    gives, takes = reader.gives(args), reader.takes(args)
    options = reader.key(args)
    place = user_place(frame)
    sizes = _sizes(gives), _dtypes(gives), _sizes(takes), _dtypes(takes)

    def call() -> Call:
        reduction, root, peer, tag, gives_splits, takes_splits = options
        return Call(
            group,
            reader.op,
            sizes[0],
            tuple(map(_dtype_name, sizes[1])),
            sizes[2],
            tuple(map(_dtype_name, sizes[3])),
            reduction,
            root,
            peer,
            tag,
            gives_splits,
            takes_splits,
            where=place,
        )

    regions: list[Region] = []
    is_async = reader.is_async(args)
    if is_async:
        regions = reader.regions(gives, takes, options[1] == rank_in_group)
    if recorder.in_flight:
        for tensor in gives:
            _check_access(recorder, tensor, reader.is_in_place, reader.op)
        for tensor in takes:
            _check_access(recorder, tensor, True, reader.op)
    key = (group, reader.op, sizes, options, place)
    return recorder.record(key, call, regions, is_async)


def _check_access(recorder: CallRecorder, tensor: Any, is_write: bool, op: str) -> None:
    region = region_of(tensor, True)
    if region is not None:
        recorder.touched(region, is_write, op)


def _group_of(recorder: CallRecorder, boxed: Any) -> tuple[str, int]:
    """Return the key of a process group, and this process's rank in it."""
    from torch._C._distributed_c10d import ProcessGroup
    from torch.distributed import distributed_c10d

    group = ProcessGroup.unbox(boxed)
    name = str(group.group_name)
    record: Any = distributed_c10d._world
    recorder.in_world(record.default_pg)
    members: dict[int, int] | None = record.pg_group_ranks.get(group)
    if members is not None:
        ranks = tuple(sorted(members, key=members.__getitem__))
        return recorder.key_of_group(name, ranks, str(group.group_desc)), group.rank()
    # torch does not know it (any more). One that a test has made without torch.distributed's
    # functions is the test's own business.
    key = recorder.last_key(name)
    if key is None:
        return name, group.rank()
    recorder.fault(
        f"group {name!r} is used after it was destroyed", where=user_place(sys._getframe(2))
    )
    return key, group.rank()


# Waits


def _wrap_methods(c10d: Any) -> None:
    for name in vars(c10d.ProcessGroup):
        if name in _RETURN_WORK:
            setattr(c10d.ProcessGroup, name, _following(getattr(c10d.ProcessGroup, name)))
    for owner, name, wrapped in wrapped_functions():
        setattr(owner, name, wrapped)


def wrapped_functions() -> Iterator[tuple[Any, str, Any]]:
    """Return what sees the waits, and the calls that reach no operator, as (owner, name, value)."""
    from torch._C._distributed_c10d import Work
    from torch.distributed import distributed_c10d

    for name in (*_WAITS, *_LOOKS):
        if hasattr(Work, name):
            yield Work, name, _waiting(getattr(Work, name), name in _LOOKS)
    for name, wrap in (
        ("_warn_not_in_group", _telling),
        ("_new_group_with_tag", _recording_groups),
    ):
        plain = getattr(distributed_c10d, name, None)
        if plain is not None:
            yield distributed_c10d, name, wrap(plain)


# The methods of ProcessGroup that return a Work (torch 2.6 to 2.15).
_RETURN_WORK = frozenset(
    {
        "_allgather_base",
        "_end_coalescing",
        "_reduce_scatter_base",
        "all_gather_single",
        "all_gather_single_coalesced",
        "all_to_all_single",
        "allgather",
        "allgather_coalesced",
        "allgather_into_tensor_coalesced",
        "allreduce",
        "allreduce_coalesced",
        "alltoall",
        "alltoall_base",
        "barrier",
        "broadcast",
        "gather",
        "recv",
        "recv_anysource",
        "reduce",
        "reduce_scatter",
        "reduce_scatter_single",
        "reduce_scatter_single_coalesced",
        "reduce_scatter_tensor_coalesced",
        "scatter",
        "send",
    }
)


def _following(plain: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(plain)
    def method(*args: Any, **kwargs: Any) -> Any:
        recorder = recorder_of_caller()
        if recorder is None:
            return plain(*args, **kwargs)
        recorder.forget_fresh()
        work = plain(*args, **kwargs)
        if work is not None:
            follow(recorder, work, sys._getframe(1))
        return work

    return method


def follow(recorder: CallRecorder, work: Any, caller: FrameType | None) -> None:
    """Follow the Work of what the calling thread has just issued, and watch its tensors.

    If it is for torch's own code, that code waits for it, often in C++, where no wait is seen; or
    knows that it need not, as `Join` does.

    Args:
        recorder: of the rank.
        work: what the operation returned.
        caller: the frame that called the method of the process group.
    """
    while caller is not None and _passes_on(caller.f_code.co_filename):
        caller = caller.f_back
    if caller is not None and is_torch(caller.f_code.co_filename):
        recorder.forget_fresh()
        return
    recorder.follow(work)
    watch_tensors(recorder.in_flight > 0)


# Between a method of a process group and the code that gets its Work: the functions of
# torch.distributed, their decorators, and context managers.
_PASSING_ON = (
    os.path.join("torch", "distributed", "distributed_c10d.py"),
    os.path.join("torch", "distributed", "c10d_logger.py"),
    contextlib.__file__,
    "typing_extensions.py",
)


@functools.lru_cache(maxsize=4096)
def _passes_on(filename: str) -> bool:
    return filename.endswith(_PASSING_ON) or filename.startswith(HARNESS)


def _waiting(plain: Callable[..., Any], only_looks: bool) -> Callable[..., Any]:
    @functools.wraps(plain)
    def method(work: Any, *args: Any, **kwargs: Any) -> Any:
        # Any thread may wait, also one that is no rank's.
        recorder = recorder_of_work(work)
        if recorder is None:
            return plain(work, *args, **kwargs)
        # Before it is over: to wait may be to copy the result into the tensors (gloo's
        # reduce_scatter_tensor, torch 2.13).
        position = -1 if only_looks else recorder.waited(work)
        try:
            result = plain(work, *args, **kwargs)
        except BaseException:
            recorder.raised(recorder.waited(work) if only_looks else position)
            raise
        if only_looks and result:
            recorder.waited(work)
        watch_tensors(recorder.in_flight > 0)
        return result

    return method


def _telling(plain: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(plain)
    def warn(op_name: str) -> Any:
        recorder = recorder_of_caller()
        if recorder is not None:
            recorder.fault(
                f"{op_name} of a group that the rank is not a member of does nothing",
                where=user_place(sys._getframe(1)),
            )
        return plain(op_name)

    return warn


def _recording_groups(plain: Callable[..., Any]) -> Callable[..., Any]:
    from torch.distributed import distributed_c10d

    @functools.wraps(plain)
    def new_group(ranks: Any = None, *args: Any, **kwargs: Any) -> Any:
        recorder = recorder_of_caller()
        # With local synchronization, only the members call it.
        if recorder is None or kwargs.get("use_local_synchronization"):
            return plain(ranks, *args, **kwargs)
        default_group = distributed_c10d._world.default_pg
        recorder.in_world(default_group)
        if ranks is None and default_group is not None:
            ranks = list(range(default_group.size()))
        members = "all ranks" if ranks is None else f"ranks {sorted(ranks)}"
        place = user_place(sys._getframe(1))
        recorder.record(
            ("new_group", members, place),
            lambda: Call(WORLD, "new_group", detail=members, where=place),
        )
        return plain(ranks, *args, **kwargs)

    return new_group


# Tensors of operations in flight


def watch_tensors(on: bool) -> None:
    """Watch what the calling thread reads and writes, or stop watching.

    A dispatch mode sees it. It is pushed only on an empty stack, so that a test's own modes are
    pushed above it, and popped before it. It stays while one of them is there, and does nothing.

    The stack itself says whether the mode is on it: what a hook pushes or pops during backward()
    is undone at its end, since autograd restores the modes that were there at its begin.
    """
    import torch

    depth = torch._C._len_torch_dispatch_stack()
    if on and depth == 0:
        torch._C._push_on_torch_dispatch_stack(_watch_class()())
    elif not on and depth == 1 and isinstance(_mode_at(0), _watch_class()):
        torch._C._pop_torch_dispatch_stack(None)


def _mode_at(number: int) -> Any:
    import torch

    return torch._C._get_dispatch_stack_at(number)


@functools.cache
def _watch_class() -> Any:
    from torch.utils._python_dispatch import TorchDispatchMode

    class AccessWatch(TorchDispatchMode):
        """Sees which memory the thread reads and writes while operations are in flight."""

        @classmethod
        def ignore_compile_internals(cls) -> bool:
            # Else torch.compile refuses to compile, or does without (torch 2.13).
            return True

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            recorder = recorder_of_caller()
            if recorder is not None and recorder.in_flight:
                _check_accesses(recorder, func, args, kwargs or {})
            return func(*args, **(kwargs or {}))

    return AccessWatch


def _check_accesses(recorder: CallRecorder, func: Any, args: Any, kwargs: Any) -> None:
    accesses = _accesses(func)
    if accesses is None:
        return
    for i, argument in enumerate(args):
        _check_argument(recorder, argument, accesses.get(i, False), func)
    for name, argument in kwargs.items():
        _check_argument(recorder, argument, accesses.get(name, False), func)


def _check_argument(recorder: CallRecorder, argument: Any, is_write: bool, func: Any) -> None:
    import torch

    if isinstance(argument, torch.Tensor):
        _check_access(recorder, argument, is_write, func._schema.name.partition("::")[2])
    elif isinstance(argument, list | tuple):
        for item in argument:
            _check_argument(recorder, item, is_write, func)


# Operators that look only at the shape of a tensor.
_SHAPE_ONLY = (
    "empty_like",
    "new_",
    "zeros_like",
    "ones_like",
    "full_like",
    "rand",
    "sym_",
    "is_",
    "record_stream",
)


@functools.cache
def _accesses(func: Any) -> dict[int | str, bool] | None:
    """Return which arguments an operator writes to; None if it touches no memory."""
    schema = func._schema
    namespace, _, name = schema.name.partition("::")
    if namespace in {"c10d", "_c10d_functional", "prim"} or name.startswith(_SHAPE_ONLY):
        return None
    if func.is_view or name in {"detach", "alias", "lift_fresh", "set_", "resize_"}:
        return None
    writes: dict[int | str, bool] = {}
    for i, argument in enumerate(schema.arguments):
        alias = argument.alias_info
        if alias is not None and alias.is_write:
            writes[i] = writes[argument.name] = True
    return writes
