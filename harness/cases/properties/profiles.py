"""Hypothesis profiles `dev`, `ci` and `debug`, also under PyTorch's names."""

from __future__ import annotations

import functools
import os
import sys
from importlib import metadata
from importlib.util import find_spec
from typing import Any

# PyTorch's TestCase names its CI profile `pytorch_ci`, and reads the same variable.
_ALIASES = {"ci": ("ci", "pytorch_ci"), "dev": ("dev",), "debug": ("debug",)}
PROFILE_VARIABLE = "PYTORCH_HYPOTHESIS_PROFILE"


def load_where_used() -> None:
    """Load the profile now if hypothesis is imported already, or else when it is first imported.

    The entry point in setup.cfg does the latter. A copy of the harness that is not installed has no
    entry point, so there this imports hypothesis at once: a test's `@settings` must never see other
    defaults. If hypothesis is not installed, this does nothing.
    """
    there = "hypothesis" in sys.modules
    if there or (not _entry_point_is_installed() and find_spec("hypothesis") is not None):
        load()


def load() -> None:
    """Register the profiles, and load the one that the environment selects; do this only once."""
    import hypothesis  # noqa: F401 (importing it may call this function, by the entry point)

    _register()


@functools.cache
def _register() -> None:
    import hypothesis

    for name, values in _profiles().items():
        for alias in _ALIASES[name]:
            hypothesis.settings.register_profile(alias, **values)
    on_ci = bool(os.environ.get("CI"))
    hypothesis.settings.load_profile("ci" if on_ci else os.environ.get(PROFILE_VARIABLE) or "dev")


def _profiles() -> dict[str, dict[str, Any]]:
    from hypothesis import HealthCheck, Verbosity

    common: dict[str, Any] = {
        # Starting ranks takes milliseconds that vary, so Hypothesis's deadline of 200 ms for an
        # example would make tests flaky.
        "deadline": None,
        # Every run of a test has a new instance; Hypothesis reports that as differing executors.
        "suppress_health_check": [HealthCheck.too_slow, HealthCheck.differing_executors],
        "database": None,
        "verbosity": Verbosity.normal,
        # Without a database, `@reproduce_failure` is the only way to run a failing example again.
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
