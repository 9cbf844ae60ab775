"""Secrets of torchrun's worlds for the self-tests, and the place of a process in such a world."""

from __future__ import annotations

from harness.model.torchrun_environ import TorchrunPlace, torchrun_place
from harness.ranks.stores import LOOPBACK
from harness.ranks.torchrun.world_secret import WorldSecret

SECRET = WorldSecret(b"of the selftest", "the selftest")
OTHER_SECRET = WorldSecret(b"of another world", "the selftest")


def place_of(rank: int, **more: str) -> TorchrunPlace:
    """The place of a rank in a world of two on one host."""
    environ = {
        "RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": LOOPBACK,
        "MASTER_PORT": "29500", **more,
    }  # fmt: skip
    place = torchrun_place(environ)
    assert place is not None
    return place
