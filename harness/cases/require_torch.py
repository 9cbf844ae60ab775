"""Check that torch can be used, and say in one sentence what to do if it cannot."""

from __future__ import annotations

import importlib.util
from importlib import metadata

from harness.model.errors import TorchMissingError
from harness.model.installed_torch import use_installed_torch

MINIMUM = (2, 6)


def require_torch() -> None:
    """Raise TorchMissingError unless torch is installed, built, and new enough."""
    # In a checkout of PyTorch, the folder `torch` there would be imported, which is not built.
    use_installed_torch()
    wanted = ".".join(map(str, MINIMUM))
    if importlib.util.find_spec("torch") is None:
        raise TorchMissingError(f"torch is not installed: run `pip install 'torch>={wanted}'`")
    found = _installed_version()
    if found is not None and found < MINIMUM:
        version = ".".join(map(str, found))
        raise TorchMissingError(
            f"torch {version} is too old: run `pip install --upgrade 'torch>={wanted}'`"
        )


def require_distributed() -> None:
    """Raise TorchMissingError unless torch was built with torch.distributed."""
    import torch.distributed as dist

    if not dist.is_available():
        raise TorchMissingError(
            "this torch was built without torch.distributed (USE_DISTRIBUTED=0): install one that "
            "has it, or put a skip decorator such as @requires_gloo() on the test"
        )


def _installed_version() -> tuple[int, ...] | None:
    """Return major and minor version of the installed torch; None if its metadata lacks them."""
    try:
        return tuple(int(part) for part in metadata.version("torch").split(".")[:2])
    except (metadata.PackageNotFoundError, ValueError):
        return None
