"""Read torch's flight recorder: the last collectives of this process, including gloo's.

Tested with torch 2.13. Without the recorder, or with another format, there are no collectives. For
gloo, the recorder has the time at which a collective was issued (`time_created_ns`) and whether it
has completed (`retired`), but not when it completed: only backends with a watchdog thread set
`time_discovered_completed_ns`.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
import time
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

from harness.diagnosis.calls import group_label, tensors_text
from harness.model.clock import now
from harness.model.communication import Call, CommunicationRecord, group_key
from harness.model.evidence import Collective, Group
from harness.model.outcome import Place
from harness.model.timeline import CollectiveSpan

# More than a reader needs, and enough to find where ranks diverge late in a test.
MAX_COLLECTIVES = 200


def collectives(since_ns: int, with_frames: bool) -> tuple[Collective, ...]:
    """Return the last collectives of this process; torch.distributed must be imported.

    Args:
        since_ns: leave out older collectives; in nanoseconds since the epoch.
        with_frames: whether to include the Python frames that issued each collective.
    """
    now_ns = time.time_ns()
    return tuple(_collective(entry, now_ns) for entry in _entries(since_ns, with_frames))


def record(since_ns: int, groups: Mapping[str, Group]) -> CommunicationRecord:
    """Return what the recorder knows of this process's collectives, for the audit.

    It has no sends and receives, no roots and no reductions (torch 2.13).

    Args:
        since_ns: leave out what is older, in nanoseconds since the epoch.
        groups: the process groups, by name.
    """
    entries = _entries(since_ns, with_frames=False, limit=None)
    calls: dict[Call, int] = {}
    keys = {name: group_key(name, group.ranks) for name, group in groups.items()}
    order = [calls.setdefault(_call(entry, keys), len(calls)) for entry in entries]
    capacity = int(os.environ.get("TORCH_FR_BUFFER_SIZE") or 0)
    lost = "torch's flight recorder is full; the first operations are lost"
    return CommunicationRecord(
        calls=tuple(calls),
        order=tuple(order),
        groups={keys[name]: group for name, group in groups.items()},
        missing=lost if entries and len(entries) >= capacity else "",
    )


def _call(entry: dict[str, Any], keys: Mapping[str, str]) -> Call:
    name = str(entry["process_group"][0])
    sizes, dtypes = _tensors(entry)
    op = entry["profiling_name"].rpartition(":")[2]
    # The recorder flattens the lists of the others.
    gives = sizes if op in {"all_reduce", "broadcast", "reduce"} else ()
    return Call(keys.get(name, name), op, gives, dtypes, takes=None)


def spans(since_ns: int) -> tuple[CollectiveSpan, ...]:
    """Return the last collectives with times on `now()`'s clock, for a timeline."""
    offset_s = now() - time.time_ns() / 1e9
    return tuple(_span(entry, offset_s) for entry in _entries(since_ns, with_frames=False))


def _entries(
    since_ns: int, with_frames: bool, limit: int | None = MAX_COLLECTIVES
) -> list[dict[str, Any]]:
    # The arguments are includeCollectives, includeStackTraces and onlyActive. The function is
    # private (torch 2.13): if it changes, reports lose their collectives, and nothing else breaks.
    try:
        from torch._C import _distributed_c10d

        with _without_inductor() if with_frames else contextlib.nullcontext():
            dump = pickle.loads(_distributed_c10d._dump_fr_trace(True, with_frames, False))  # type: ignore[attr-defined]
    except (ImportError, AttributeError, RuntimeError, TypeError):
        return []
    entries = [e for e in dump.get("entries", ()) if e["time_created_ns"] >= since_ns]
    last = entries if limit is None else entries[-limit:]
    return [entry for entry in last if not entry["is_p2p"]]


@contextlib.contextmanager
def _without_inductor() -> Iterator[None]:
    """Keep torch from importing its compiler, which takes over a second.

    For every frame, torch 2.13 asks `torch._inductor.codecache.PyCodeCache` whether the frame is
    compiled code (torch/csrc/profiler/combined_traceback.cpp). If nothing has imported the
    compiler, no frame is. A test cannot notice the stand-ins: frames are read only when its body
    has ended, or when the parent is about to end it.
    """
    if "torch._inductor" in sys.modules:
        yield
        return
    cache = SimpleNamespace(PyCodeCache=SimpleNamespace(stack_frames_for_code=lambda *code: None))
    stand_ins: dict[str, Any] = {
        "torch._inductor": SimpleNamespace(codecache=cache),
        "torch._inductor.codecache": cache,
    }
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name, stand_in in stand_ins.items():
            if sys.modules.get(name) is stand_in:
                del sys.modules[name]


def _collective(entry: dict[str, Any], now_ns: int) -> Collective:
    backend, _, op = entry["profiling_name"].rpartition(":")
    sizes, dtypes = _tensors(entry)
    return Collective(
        group=str(entry["process_group"][0]),
        seq=entry["collective_seq_id"],
        op=op,
        backend=backend,
        sizes=sizes,
        dtypes=dtypes,
        pending=not entry["retired"],
        waited_s=max(0.0, (now_ns - entry["time_created_ns"]) / 1e9),
        timeout_s=entry["timeout_ms"] / 1000,
        frames=tuple(Place(f["filename"], f["line"], f["name"]) for f in entry.get("frames", ())),
    )


def _span(entry: dict[str, Any], offset_s: float) -> CollectiveSpan:
    name, description = map(str, entry["process_group"])
    completed_ns = entry.get("time_discovered_completed_ns")
    return CollectiveSpan(
        op=entry["profiling_name"].rpartition(":")[2],
        group=group_label(name, description),
        seq=entry["collective_seq_id"],
        shapes=tensors_text(*_tensors(entry)),
        began_s=entry["time_created_ns"] / 1e9 + offset_s,
        ended_s=completed_ns / 1e9 + offset_s if completed_ns else None,
        pending=not entry["retired"],
    )


def _tensors(entry: dict[str, Any]) -> tuple[tuple[tuple[int, ...], ...], tuple[str, ...]]:
    """Return the sizes and the dtypes of a collective's input tensors."""
    sizes = tuple(tuple(size) for size in entry["input_sizes"])
    return sizes, tuple(_DTYPES.get(name, name.lower()) for name in entry["input_dtypes"])


# The recorder has the names of c10::ScalarType; readers know the ones of Python.
_DTYPES = {
    "Float": "float32",
    "Double": "float64",
    "Half": "float16",
    "BFloat16": "bfloat16",
    "Byte": "uint8",
    "Char": "int8",
    "Short": "int16",
    "Int": "int32",
    "Long": "int64",
    "Bool": "bool",
    "ComplexFloat": "complex64",
    "ComplexDouble": "complex128",
}
