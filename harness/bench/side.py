"""Run a test on request, for one side of a comparison.

Run as `python -m harness.bench.side SIDE`; reads lines of one world size; answers with JSON.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import unittest
from pathlib import Path
from typing import Any

SIDES = ("ours", "torch")


def case_class(side: str) -> type[unittest.TestCase]:
    """Import and return the test class of a side: each side imports only its own harness."""
    if side == "ours":
        from harness.bench.side_ours import OneCollective

        return OneCollective
    from harness.bench.side_torch import OneCollective as TorchOneCollective

    return TorchOneCollective


def run_once(cls: type[Any], world_size: int) -> dict[str, Any]:
    """Run the test; return the seconds, and the bytes by rank and of the fork server if any."""
    from harness.bench.one_collective import OUT_VARIABLE

    os.environ["HARNESS_BENCH_WORLD_SIZE"] = str(world_size)
    with tempfile.TemporaryDirectory() as out:
        os.environ[OUT_VARIABLE] = out
        seconds = _timed(cls)
        figures = [json.loads(path.read_text()) for path in Path(out).iterdir()]
        os.environ[OUT_VARIABLE] = ""
    # Measuring the memory takes time, so the seconds come from a run without it.
    seconds = _timed(cls)
    return {
        "seconds": seconds,
        "rank_bytes": [f["rank"] for f in figures],
        "server_bytes": sum(f.get("server", 0) for f in figures),
    }


def _timed(cls: type[Any]) -> float:
    result = unittest.TestResult()
    started = time.perf_counter()
    cls("test_all_reduce").run(result)
    seconds = time.perf_counter() - started
    if not result.wasSuccessful() or result.skipped:
        raise RuntimeError(f"the test did not pass: {result.errors or result.failures}")
    return seconds


def main() -> None:
    cls = case_class(sys.argv[1])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # PyTorch's harness prints; only answers go to the pipe
    for line in sys.stdin:
        print(json.dumps(run_once(cls, int(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
