"""The timed test: one all-reduce, with or without its own process group; then the rank's memory."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import FileStore

#: The folder where each rank writes its figures.
OUT_VARIABLE = "HARNESS_BENCH_OUT"


def all_reduce_ones(case: Any) -> None:
    """Run the body, the same for both harnesses, with store and group like PyTorch's tests."""
    store = FileStore(case.file_name, case.world_size)
    dist.init_process_group("gloo", store=store, rank=case.rank, world_size=case.world_size)
    x = torch.ones(4)
    dist.all_reduce(x)
    assert x.tolist() == [float(case.world_size)] * 4
    if os.environ.get(OUT_VARIABLE):
        _leave_memory(case.rank)


class OnGloo:
    """The test for classes whose process group is up already, the same for both harnesses."""

    world_size = int(os.environ.get("HARNESS_BENCH_WORLD_SIZE", "2"))

    @classmethod
    def backend_str(cls) -> str:
        return "gloo"

    def test_all_reduce(self) -> None:
        x = torch.ones(4)
        dist.all_reduce(x)
        assert x.tolist() == [float(self.world_size)] * 4


def _leave_memory(rank: int) -> None:
    dist.barrier()  # all ranks must be alive while each measures
    parent = Path(f"/proc/{os.getppid()}")
    figures = {"rank": pss_bytes("self")}
    if rank == 0 and b"forkserver" in (parent / "cmdline").read_bytes():
        figures["server"] = pss_bytes(str(os.getppid()))
    Path(os.environ[OUT_VARIABLE], f"rank{rank}").write_text(json.dumps(figures))
    dist.barrier()


def pss_bytes(pid: str) -> int:
    """Return a process's PSS in bytes: each shared page counts in equal parts for its processes."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = re.search(r"^Pss: +(\d+) kB", rollup, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024
