"""Hypothesis profiles: `dev`, `ci` and `debug`, also under PyTorch's names for them."""

from __future__ import annotations

import os
import sys
from importlib import metadata
from importlib.util import find_spec
from typing import Any

# PyTorch's TestCase calls its profile for CI `pytorch_ci`, and reads the choice of another from
# the same variable as we do.
_ALIASES = {"ci": ("ci", "pytorch_ci"), "dev": ("dev",), "debug": ("debug",)}
PROFILE_VARIABLE = "PYTORCH_HYPOTHESIS_PROFILE"

_loaded = False


def load_where_used() -> None:
    """Load the profile now if hypothesis is there already, else when it is first imported.

    The second half is the entry point in setup.cfg, so where the harness is not installed but
    copied, hypothesis is imported at once: a test's `@settings` must never see other defaults.
    Where there is no hypothesis, nothing is done.
    """
    there = "hypothesis" in sys.modules
    if there or (not _entry_point_is_installed() and find_spec("hypothesis") is not None):
        load()


def load() -> None:
    """Register the profiles, and make the one that the environment asks for the default."""
    global _loaded
    if _loaded:
        return
    _loaded = True
    import hypothesis

    for name, values in _profiles().items():
        for alias in _ALIASES[name]:
            hypothesis.settings.register_profile(alias, **values)
    on_ci = bool(os.environ.get("CI"))
    hypothesis.settings.load_profile("ci" if on_ci else os.environ.get(PROFILE_VARIABLE) or "dev")


def _profiles() -> dict[str, dict[str, Any]]:
    from hypothesis import HealthCheck, Verbosity

    common: dict[str, Any] = {
        # Ranks start in milliseconds, but not in none: an example's time says nothing.
        "deadline": None,
        # And a test that is run again, on a new instance as always, is no second user of it.
        "suppress_health_check": [HealthCheck.too_slow, HealthCheck.differing_executors],
        "database": None,
        "verbosity": Verbosity.normal,
        # Without a database, it is the one way to see a failing example again.
        "print_blob": True,
    }
    return {
        "dev": {**common, "max_examples": 10},
        "ci": {**common, "max_examples": 50, "derandomize": True},
        "debug": {**common, "max_examples": 1000, "verbosity": Verbosity.verbose},
    }


def _entry_point_is_installed() -> bool:
    try:
        entry_points = metadata.distribution("torch-rank-harness").entry_points
    except metadata.PackageNotFoundError:
        return False
    return any(entry.group == "hypothesis" for entry in entry_points)
