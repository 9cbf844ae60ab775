"""Find the checkout and its modules, for benchmarks that run its suites."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def checkout() -> Path:
    """Return the checkout's folder. Raises SystemExit if the harness is installed without one."""
    if not (ROOT / "run_tests.py").exists():
        raise SystemExit("this benchmark runs the suites of a checkout; there is none here")
    return ROOT


def in_checkout(module: str) -> Any:
    """Import a module of the checkout that is not part of the package."""
    sys.path.insert(0, str(checkout()))
    return importlib.import_module(module)
