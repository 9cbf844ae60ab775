"""Run tests on request, for one side of the comparison of faults; answer each with JSON.

Run as `python -m harness.bench.faults_side MODULE`; reads lines of one `Class.method`.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import unittest
from operator import attrgetter
from typing import Any


def run_one(module: Any, name: str) -> dict[str, str]:
    """Run one test; return unittest's word for it, and the text of its failure or skip."""
    cls_name, method = name.split(".")
    result = unittest.TestResult()
    unittest.TestSuite([attrgetter(cls_name)(module)(method)]).run(result)
    found = {
        "error": result.errors,
        "failed": result.failures,
        "unexpected success": [(test, "") for test in result.unexpectedSuccesses],
        "expected failure": result.expectedFailures,
        "skipped": result.skipped,
    }
    status = next((word for word, items in found.items() if items), "passed")
    texts = [text for items in found.values() for _, text in items]
    return {"status": status, "text": texts[0] if texts else ""}


def main() -> None:
    module = importlib.import_module(sys.argv[1])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # PyTorch's harness prints; only answers go to the pipe
    for line in sys.stdin:
        print(json.dumps(run_one(module, line.strip())), file=answers, flush=True)


if __name__ == "__main__":
    main()
