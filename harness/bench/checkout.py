"""For benchmarks that run the suites of a checkout: where it is, and its modules."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def checkout() -> Path:
    """The checkout's folder. Raises SystemExit where the harness was installed without one."""
    if not (ROOT / "run_tests.py").exists():
        raise SystemExit("this benchmark runs the suites of a checkout; there is none here")
    return ROOT


def in_checkout(module: str) -> Any:
    """A module of the checkout that is no part of the package."""
    sys.path.insert(0, str(checkout()))
    return importlib.import_module(module)
