"""See every operation of c10d that this process issues.

torch's Python API, DDP's reducer (C++) and functional collectives (C++) all call the operators of
the namespace `c10d`. A kernel for the dispatch key BackendSelect sees each of these calls first:
the key is in every call's set, whatever the tensors are, and no operator of c10d has a kernel there
(torch 2.13). It records the call and passes it on to the backend. Calls of a backend's own
methods, which only tests of backends make, are not seen.

Operators return the Work of C++. So that a recorder knows who waits for it, the methods of
`ProcessGroup` that return a Work, and those of `Work` that wait, are wrapped (`c10d_work.py`).

Everything is installed once per process, in the fork server if possible. It does nothing unless the
calling thread belongs to a rank that records its calls. Ranks that are threads have process groups
of their own (`harness/ranks/threads/groups.py`); for them, only the waits are wrapped, and only
while they run.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

from harness.model.communication import Call
from harness.ranks import this_rank
from harness.ranks.c10d_operators import OperatorReader, dtype_name, dtypes_of, sizes_of
from harness.ranks.c10d_work import wrap_methods
from harness.ranks.call_recorder import CallRecorder, user_place
from harness.ranks.regions import Region
from harness.ranks.tensor_watch import check_access

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
            reader = OperatorReader(operator)
            if reader.process_group is not None:
                name = operator._schema.name.partition("::")[2]
                kernel = _kernel(operator, reader)
                library.impl(name, kernel, "BackendSelect", with_keyset=True)
    except (ImportError, AttributeError, RuntimeError, TypeError):
        return False
    _library = library
    wrap_methods(c10d)
    return True


# The operators of c10d that communicate (torch 2.13). To find them by their namespace takes
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


def _kernel(operator: Any, reader: OperatorReader) -> Callable[..., Any]:
    import torch

    select = torch._C.DispatchKey.BackendSelect
    redispatch = operator.redispatch

    def kernel(keys: Any, *args: Any) -> Any:
        recorder = this_rank.call_recorder()
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


def _record(
    recorder: CallRecorder, reader: OperatorReader, args: tuple[Any, ...], frame: Any
) -> int:
    group, rank_in_group = _group_of(recorder, args[reader.process_group or 0])
    gives, takes = reader.gives(args), reader.takes(args)
    options = reader.key(args)
    place = user_place(frame)
    sizes = sizes_of(gives), dtypes_of(gives), sizes_of(takes), dtypes_of(takes)

    def call() -> Call:
        reduction, root, peer, tag, gives_splits, takes_splits = options
        return Call(
            group,
            reader.op,
            sizes[0],
            tuple(map(dtype_name, sizes[1])),
            sizes[2],
            tuple(map(dtype_name, sizes[3])),
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
            check_access(recorder, tensor, reader.is_in_place, reader.op)
        for tensor in takes:
            check_access(recorder, tensor, True, reader.op)
    key = (group, reader.op, sizes, options, place)
    return recorder.record(key, call, regions, is_async)


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
